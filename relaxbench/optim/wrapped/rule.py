"""A rule whose steps are those of a `torch.optim.Optimizer`, member by member."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from relaxbench.errors import UserError
from relaxbench.optim import schedules
from relaxbench.optim.hyper import Hyper, stack
from relaxbench.optim.rule import Query, Rule, State, counters
from relaxbench.optim.wrapped.arguments import Option, Recipe, has_iterate, option_names
from relaxbench.optim.wrapped.generators import untouched
from relaxbench.optim.wrapped.locate import package_of, quoted
from relaxbench.optim.wrapped.part import Part, dry
from relaxbench.space import Value

COMPANION = "companion_"
"""Prefix of the hyperparameters, options and state of the optimizer that takes the other parameters."""

SELDOM = 16
"""In one of so many steps of a population, Python's and numpy's generators are watched, too."""


class WrappedRule(Rule):
    """Rules that `make.wrap` makes: the state of the optimizer lies in the rule's state, and `step()` does the rest.

    Attributes:
        recipe: how the optimizer is made.
        companion: how the optimizer of parameters of other dimensions is made; None if there are none.
        dimensions: the numbers of dimensions of a parameter that the optimizer takes; others are the companion's.
        options: arguments that were given to both.
    """

    recipe: ClassVar[Recipe]
    companion: ClassVar[Recipe | None] = None
    dimensions: ClassVar[frozenset[int]] = frozenset()
    options: ClassVar[Mapping[str, Option]] = {}
    hyper_dtype: ClassVar[torch.dtype | None] = torch.float64  # an optimizer takes numbers of Python
    capturable: ClassVar[bool] = False  # it reads step sizes on the host

    def __init__(self, **options: Option) -> None:
        wrong = {name: value for name, value in options.items() if self.options.get(name) != value}
        if wrong:
            raise ValueError(f"{wrong}: the options of {self.name} are stated where it is wrapped")
        self._parts: list[Part] = []
        self._shapes: tuple[torch.Size, ...] = ()
        self._found: tuple[torch.device, torch.dtype] | None = None
        self._updates = 0

    @classmethod
    def recipes(cls) -> list[tuple[Recipe, str]]:
        """Return the recipes of the optimizer and of its companion, and the prefix of their hyperparameters."""
        return [(cls.recipe, ""), *([(cls.companion, COMPANION)] if cls.companion else [])]

    @classmethod
    def refusal(cls, values: Mapping[str, Value]) -> str | None:
        """Return the error with which the optimizer, or its companion, refuses values; None if both take them."""
        for recipe, prefix in cls.recipes():
            given = {name: values[prefix + name] for name in recipe.places if prefix + name in values}
            try:
                recipe.make([nn.Parameter(torch.zeros(4, 3))], given)
            except (Exception, SystemExit) as error:  # an optimizer may raise any kind
                return quoted(error)
        return None

    @classmethod
    def option_names(cls) -> list[str]:
        own = option_names(cls.recipe.cls, cls.recipe.path)
        if cls.companion is None:
            return own
        others = option_names(cls.companion.cls, cls.companion.path)
        return [*own, "companion", *(COMPANION + name for name in others)]

    @classmethod
    def origin(cls) -> str:
        packages = {package_of(recipe.path) for recipe, _ in cls.recipes()} - {""}
        return (
            f"{' and '.join(recipe.shown for recipe, _ in cls.recipes())} ({', '.join(sorted(packages)) or 'a file'})"
        )

    @classmethod
    def unsearched(cls, searched: Collection[str], fixed: Collection[str] = ()) -> str | None:
        """Say that nobody searches what moves an optimizer without `lr`, and how to do it; None if somebody does.

        Args:
            searched: names of its hyperparameters that are searched.
            fixed: those that the study file fixes.
        """
        idle = [name for name in cls.recipe.places if name not in (*searched, *fixed, "weight_decay")]
        if "lr" in cls.wide or not idle or set(searched) - {"weight_decay"}:
            return None
        what = "weight_decay alone" if searched else "nothing"
        return f"of {cls.recipe.shown} {what} is searched: state ranges, such as space = {{ {idle[0]} = [low, high] }}"

    @classmethod
    def unfit(cls, shapes: Sequence[torch.Size]) -> str | None:
        """Return why the optimizer cannot train parameters of these shapes; None if it can."""
        if any(len(shape) in cls.dimensions for shape in shapes) or not cls.dimensions:
            return None
        return f"{cls.recipe.shown} takes {in_words(cls.dimensions)} alone, of which the model has none"

    def bind(self, shapes: Sequence[torch.Size]) -> None:
        """Share the parameters between the optimizer and its companion, and measure the memory of their states."""
        if tuple(shapes) == self._shapes:
            return
        ends = [0]
        for shape in shapes:
            ends.append(ends[-1] + shape.numel())
        columns = [slice(begin, end) for begin, end in pairwise(ends)]
        self._parts = []
        for recipe, prefix in ((self.recipe, ""), (self.companion, COMPANION)):
            mine = [i for i, shape in enumerate(shapes) if self._is_companions(shape) == bool(prefix)]
            if recipe is not None and mine:
                self._parts.append(Part(recipe, [shapes[i] for i in mine], [columns[i] for i in mine], prefix))
        self._shapes, self._found = tuple(shapes), None
        self._find(torch.device("cpu"), torch.float32)
        self.copies = 2 + self._bytes() // max(1, 4 * ends[-1])  # x, the gradient, and the state

    def init(self, x: Tensor, seed: Tensor) -> State:
        if not self._shapes:
            self.bind([torch.Size([x.shape[1]])])
        self._find(x.device, x.dtype)
        state = {"x": x.clone(), **counters(x, seed)}
        for name, (width, dtype) in self._widths().items():
            state[name] = torch.zeros(len(x), width, dtype=dtype, device=x.device)
        return state

    def query(self, state: State, hyper: Hyper) -> Query:
        return Query(state["x"], state["t"])

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        first = (state["t"][:, 0] == 0).tolist()
        self._updates += 1
        for part in self._parts:
            names = [name for name in part.recipe.places if part.prefix + name in hyper]
            columns = [hyper[part.prefix + name][:, 0].tolist() for name in names]
            values = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)] or [{}] * len(first)
            part.open(state)
            with untouched(part.recipe.path, state["x"].device, self._updates % SELDOM == 0):
                for k, is_first in enumerate(first):
                    self._step_member(part, state, k, grad[k], values[k], is_first)
            part.close(state)
            for name, column in zip(names, columns, strict=True):
                if has_iterate(part.recipe.cls):
                    state[_stored(part, name)].copy_(torch.tensor(column, dtype=torch.float64)[:, None])
        # A run whose gradient is not a number has diverged, also where a sign of it, or a limit, hides that.
        state["x"].masked_fill_(torch.isnan(grad).any(dim=1, keepdim=True), math.nan)
        state["t"] += 1
        return state

    def _step_member(
        self, part: Part, state: State, k: int, grad: Tensor, values: Mapping[str, float], is_first: bool
    ) -> None:
        x = state["x"][k]
        try:
            part.step(state, k, x, grad, values, is_first)
        except (ArithmeticError, RuntimeError, ValueError):
            if bool(torch.isfinite(x).all()) and bool(torch.isfinite(grad).all()):
                raise
            x.fill_(math.nan)  # some optimizers raise where others compute with NaN

    def iterate(self, state: State) -> Tensor:
        moving = [part for part in self._parts if has_iterate(part.recipe.cls)]
        if not moving:
            return state["x"]
        x = state["x"].clone()
        for k, queries in enumerate(state["t"][:, 0].tolist()):
            for part in moving if queries else []:
                values = {name: float(state[_stored(part, name)][k, 0]) for name in part.recipe.places}
                part.evaluate(state, k, x[k], values)
        return x

    def at(self, hyper: Hyper, progress: Tensor) -> dict[str, Tensor]:
        now = dict(hyper)
        if "schedule" in hyper:
            factor = schedules.step_size(hyper["schedule"], progress)
            now |= {name: hyper[name] * factor for name in ("lr", f"{COMPANION}lr") if name in hyper}
        return now

    def fingerprint(self, params: Mapping[str, Value]) -> list[Tensor]:
        shapes = tuple(map(torch.Size, ((4, 3), (4,), (3, 2, 2, 2))))
        own = type(self)()
        own.bind(shapes)
        start = torch.cat([dry(shape, 0).reshape(-1) for shape in shapes])[None]
        state = own.init(start, torch.zeros(1, 1, dtype=torch.int64))
        hyper = own.at(stack([params], torch.device("cpu"), torch.float64), torch.zeros(1, 1))
        for step in range(4):
            own.update(state, dry(start.shape, step + 1), torch.zeros(1, 1), hyper)
        return list(own.iterate(state)[0])

    def start_anew(self) -> None:
        """Forget everything beside the state, as another process does that continues from a checkpoint."""
        shapes, self._shapes = self._shapes, ()
        self.bind(shapes)

    def _is_companions(self, shape: torch.Size) -> bool:
        return bool(self.dimensions) and len(shape) not in self.dimensions

    def _find(self, device: torch.device, dtype: torch.dtype) -> None:
        """Find the state of both optimizers on a device, once."""
        if self._found == (device, dtype):
            return
        for part in self._parts:
            try:
                part.find_state(device, dtype)
            except UserError:
                raise
            except (Exception, SystemExit) as error:
                raise UserError(f"optimizer {part.recipe.path!r} cannot take a step: {quoted(error)}") from error
        self._found = (device, dtype)

    def _widths(self) -> dict[str, tuple[int, torch.dtype]]:
        widths: dict[str, tuple[int, torch.dtype]] = {}
        for part in self._parts:
            widths |= part.widths
            if has_iterate(part.recipe.cls):
                widths |= {_stored(part, name): (1, torch.float64) for name in part.recipe.places}
        return widths

    def _bytes(self) -> int:
        """Return the memory of the state of one member beside its parameters, in bytes."""
        return sum(width * dtype.itemsize for width, dtype in self._widths().values()) + 16


def in_words(dimensions: frozenset[int]) -> str:
    """Return the parameters that an optimizer takes, in words."""
    if dimensions == {2}:
        return "matrices"
    return f"parameters of {', '.join(map(str, sorted(dimensions)))} dimensions"


def _stored(part: Part, name: str) -> str:
    """Name the entry of the state that holds a hyperparameter of the last step, which the iterate depends on."""
    return f"{part.prefix}last.{name}"
