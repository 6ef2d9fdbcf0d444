"""Read the signature of an optimizer: what may differ between trials, and what is an option of all of them.

Real numbers that are not negative are hyperparameters; each element of a tuple of them is one (`betas` is `beta1` and
`beta2`). Everything else (whole numbers, flags, texts) is an option.
"""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from relaxbench.errors import UserError, unknown
from relaxbench.space import Value

Option = bool | int | float | str
"""The value of an argument that all trials share."""


@dataclass(frozen=True)
class Place:
    """Where a hyperparameter stands in the arguments of an optimizer.

    Attributes:
        argument: name of the argument.
        index: of the element, or None if the argument is one number.
        default: its value where nothing else is said.
    """

    argument: str
    index: int | None
    default: float


@dataclass(frozen=True)
class Recipe:
    """How an optimizer is made.

    Attributes:
        cls: its class.
        path: as in a study file, without prefix.
        options: arguments that all trials share.
        places: the hyperparameters by their names.
    """

    cls: type[Optimizer]
    path: str
    options: Mapping[str, Option]
    places: Mapping[str, Place]

    @property
    def shown(self) -> str:
        """The path as a page shows it: of a file its name alone."""
        file, sign, name = self.path.rpartition(":")
        return f"{PurePath(file).name}:{name}" if sign else self.path

    def arguments(self, values: Mapping[str, Value]) -> dict[str, Any]:
        """Return the values of the arguments that hyperparameters are, defaults where they have no value."""
        made: dict[str, Any] = {}
        for name, place in self.places.items():
            value = float(values.get(name, place.default))
            made[place.argument] = value if place.index is None else (*made.get(place.argument, ()), value)
        return made

    def nowhere_zero(self) -> dict[str, float]:
        """Return values none of which is 0, where the optimizer takes them: a momentum of 0 may need no state."""
        values: dict[str, float] = {}
        for name in [name for name, place in self.places.items() if place.default == 0]:
            tried = {**values, name: 0.1}
            with contextlib.suppress(Exception):
                self.make([nn.Parameter(torch.zeros(2, 2))], tried)
                values = tried
        return values

    def make(self, params: Sequence[Tensor], values: Mapping[str, Value]) -> Optimizer:
        """Make an optimizer of these parameters, ready for its first step."""
        make: Any = self.cls
        optimizer: Optimizer = make(params, **{**self.options, **self.arguments(values)})
        begin_training(optimizer)
        return optimizer


def has_iterate(cls: type[Optimizer]) -> bool:
    """Return whether an optimizer is evaluated elsewhere than where it takes gradients, as Schedule-Free ones are."""
    return callable(getattr(cls, "train", None)) and callable(getattr(cls, "eval", None))


def begin_training(optimizer: Any) -> None:
    """Put an optimizer that distinguishes training from evaluation into training."""
    if has_iterate(type(optimizer)):
        optimizer.train()


def read(cls: type[Optimizer], path: str, options: Mapping[str, Option]) -> Recipe:
    """Read the signature of an optimizer.

    Raises:
        UserError: if an option is unknown, or if an argument without a default has no value.
    """
    signature = _signature(cls, path)
    places = {
        name: place
        for argument, default in signature.items()
        if argument not in options or default is inspect.Parameter.empty
        for name, place in _places(argument, options.get(argument, default)).items()
    }
    for name in options:
        if name not in signature:
            raise unknown(f"option of {path}:", name, option_names(cls, path))
        if signature[name] is not inspect.Parameter.empty and _places(name, signature[name]):
            raise UserError(f"option {name} of {path} may differ between trials: state it in `fixed` or in `space`")
    missing = [
        name for name, default in signature.items() if default is inspect.Parameter.empty and name not in options
    ]
    if missing:
        raise UserError(
            f"optimizer {path!r} has arguments without a default, {', '.join(missing)}: give each a value in `options`"
        )
    for name, value in options.items():
        _check_type(path, name, value, signature[name])
    kept = {name: value for name, value in options.items() if not any(p.argument == name for p in places.values())}
    return _possible(Recipe(cls, path, kept, places))


def _check_type(path: str, name: str, value: Option, default: Any) -> None:
    """Check an option whose default is a flag or a whole number."""
    wanted = "true or false" if isinstance(default, bool) else "a whole number" if isinstance(default, int) else ""
    if wanted and type(value) is not type(default):
        raise UserError(f"option {name} of {path} = {value!r}: expected {wanted}")


def _possible(recipe: Recipe) -> Recipe:
    """Return a recipe whose defaults the optimizer takes: with an option, such as nesterov, 0 may be none."""
    others = recipe.nowhere_zero()
    with contextlib.suppress(Exception):
        recipe.make([nn.Parameter(torch.zeros(2, 2))], {})
        return recipe
    places = {name: replace(place, default=others.get(name, place.default)) for name, place in recipe.places.items()}
    return replace(recipe, places=places)


def option_names(cls: type[Optimizer], path: str) -> list[str]:
    """Return the arguments that are options."""
    return [name for name, default in _signature(cls, path).items() if not _places(name, default)]


def _signature(cls: type[Optimizer], path: str) -> dict[str, Any]:
    """Return the defaults of all arguments but the parameters to train."""
    try:
        _, *arguments = inspect.signature(cls).parameters.values()
    except (TypeError, ValueError):
        raise UserError(f"optimizer {path!r} has no signature, or takes no parameters: name another one") from None
    return {
        each.name: _as_declared(each)
        for each in arguments
        if each.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    }


def swallowing(cls: type[Optimizer]) -> str:
    """Return the ``**kwargs`` of an optimizer's constructor, whose names cannot be read; "" if it has none."""
    arguments = inspect.signature(cls).parameters.values()
    return next((f"**{each.name}" for each in arguments if each.kind is inspect.Parameter.VAR_KEYWORD), "")


def _as_declared(argument: inspect.Parameter) -> Any:
    """Return the default of an argument; whole numbers where real ones are declared are real ones."""
    default = argument.default
    if isinstance(default, int) and not isinstance(default, bool) and "float" in str(argument.annotation).lower():
        return float(default)
    return default


def _places(argument: str, default: Any) -> dict[str, Place]:
    """Return the hyperparameters that an argument is: none, one, or one per element."""
    if _is_number(default):
        return {argument: Place(argument, None, float(default))}
    if isinstance(default, tuple) and default and all(map(_is_number, default)):
        stem = argument.removesuffix("s") if argument.endswith("as") else f"{argument}_"
        return {f"{stem}{i}": Place(argument, i - 1, float(value)) for i, value in enumerate(default, start=1)}
    return {}


def _is_number(value: Any) -> bool:
    return isinstance(value, float) and 0 <= value < math.inf
