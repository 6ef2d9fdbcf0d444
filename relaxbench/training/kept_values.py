"""Record what a model keeps beside its parameters: attributes of layers, of classes and functions, and globals."""

from __future__ import annotations

import itertools
import math
import random
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from relaxbench.problems import Problem, SupervisedProblem
from relaxbench.problems.custom_losses import OwnLoss

DEPTH = 4
"""Containers within containers that are looked into."""
ITEMS = 64
"""Items at each end of a list, and in a dict, that are compared."""
MOST = 20_000
"""Values that are compared for each name."""
NUMBERS = 1 << 20
"""Numbers of a tensor that are compared."""
CLOSE = 1e-5
"""Largest relative difference of equal tensors, which may be results of a computation."""
FOREIGN = {"torch", "relaxbench", "numpy", *sys.stdlib_module_names} - {"__main__"}
"""Packages whose classes and globals are no part of a model."""
MODULE = frozenset(vars(nn.Module()))
"""Attributes of every module, which hold what is compared elsewhere, or its mode."""
Kept = dict[str, object]
"""Name of a value, as in a message → the value."""


def kept_values(problem: Problem) -> Kept:
    """Return copies of all values that a model, its loss, their classes and their files keep, as far as is looked."""
    kept: Kept = {}
    functions: list[Any] = []
    if isinstance(problem, SupervisedProblem):
        functions = [problem._build]
        for name, module in problem.model.named_modules():
            kept |= _attributes(module, name)
            functions.append(type(module))
        if isinstance(problem.loss, OwnLoss):
            own = problem.loss.function
            kept |= _attributes(own, f"{problem.loss.name} of the loss") if isinstance(own, nn.Module) else {}
            functions.append(type(own) if isinstance(own, nn.Module) else own)
    elif _is_own(type(problem).__module__):
        kept |= _attributes(problem, "")
        functions = [type(problem)]
    for name in dict.fromkeys(_module_of(each) for each in functions):
        if _is_own(name) and name in sys.modules:
            kept |= _globals(vars(sys.modules[name]))
    for each in functions:  # of no file, such as those that a function makes
        if _is_own(_module_of(each)):
            kept |= {f"attribute of {getattr(each, '__qualname__', each)!r}": _Copy().of(each)}
    return kept


def changed_values(before: Kept, after: Kept) -> list[str]:
    """Return the names of the values that are others."""
    return [name for name in after if name not in before or not _equal(before[name], after[name])]


def _module_of(value: Any) -> str:
    return str(getattr(value, "__module__", None) or type(value).__module__)


def _is_own(module: str) -> bool:
    return module.partition(".")[0] not in FOREIGN


def _attributes(owner: object, place: str) -> Kept:
    attributes = {key: value for key, value in _variables(owner).items() if key not in MODULE}
    return {f"attribute {f'{place}.{key}'.lstrip('.')!r}": _Copy().of(value) for key, value in attributes.items()}


def _globals(variables: Mapping[str, object]) -> Kept:
    """Return the values of a file, and those that its own classes, functions and objects keep."""
    name = variables.get("__name__")
    plain = (bool, int, float, complex, list, dict, set, deque, Tensor, np.ndarray, itertools.count)
    return {
        f"global {key!r}": _Copy().of(value)
        for key, value in dict(variables).items()
        if not key.startswith("__")
        and not isinstance(value, Problem | nn.Module)
        and (isinstance(value, plain) or _module_of(value) == name)
    }


def _variables(owner: object) -> dict[str, Any]:
    slots = [name for cls in type(owner).__mro__ for name in _names(getattr(cls, "__slots__", ()))]
    return {
        **{name: getattr(owner, name) for name in slots if hasattr(owner, name) and name != "__dict__"},
        **getattr(owner, "__dict__", {}),
    }


def _names(slots: object) -> Iterator[str]:
    yield from (slots,) if isinstance(slots, str) else map(str, slots)  # type: ignore[call-overload]


class _Copy:
    """Copies a value into plain values and tensors, as far as it is looked into."""

    def __init__(self) -> None:
        self._left = MOST

    def of(self, value: Any, depth: int = DEPTH) -> object:
        """Return the copy: a plain value, a tensor, or a tuple of copies."""
        self._left -= 1
        if isinstance(value, float) and math.isnan(value):
            return "nan"
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            return value
        if isinstance(value, np.generic):
            return repr(value)
        if isinstance(value, nn.Parameter) or depth == 0 or self._left <= 0:
            return type(value).__name__
        if isinstance(value, Tensor):
            return _sample(value)
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            return _sample(torch.from_numpy(value.astype(np.float64)))
        parts = self._parts(value)
        return (type(value).__name__, *(self.of(part, depth - 1) for part in parts))

    def _parts(self, value: Any) -> list[Any]:
        """Return what an object consists of."""
        if isinstance(value, list | tuple | deque):
            items = [*value] if len(value) <= 2 * ITEMS else [*[*value][:ITEMS], *[*value][-ITEMS:]]
            return [len(value), *items]
        if isinstance(value, Mapping):
            return [len(value), *(part for pair in itertools.islice(value.items(), ITEMS) for part in pair)]
        if isinstance(value, set | frozenset):
            return [len(value), *sorted(repr(item) for item in value if isinstance(item, int | float | str | bytes))]
        if isinstance(value, itertools.count):
            return [repr(value)]
        if isinstance(value, random.Random):
            return [repr(value.getstate())]
        if isinstance(value, np.random.Generator):
            return [repr(value.bit_generator.state)]
        if isinstance(value, FunctionType):
            cells = [cell.cell_contents for cell in value.__closure__ or () if cell != type(cell)()]
            inner = [each for each in cells if not isinstance(each, type | nn.Module | Problem)]
            return [value.__defaults__, value.__kwdefaults__, vars(value), *inner]
        if isinstance(value, type):
            return [*vars(value).values()] if _is_own(value.__module__) else []
        if isinstance(value, Problem):
            return []
        return [part for key, part in _variables(value).items() if key not in MODULE]


def _sample(value: Tensor) -> object:
    """Return shape, type and numbers of a tensor, not all of a large one."""
    about = (tuple(value.shape), str(value.dtype))
    try:
        flat = value.detach().reshape(-1)
        return (*about, flat[:: max(1, flat.numel() // NUMBERS)].cpu().clone())
    except RuntimeError:  # the rest of a transform that has ended, or of another layout
        return about


def _equal(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.shape != other.shape:
            return False
        if one.is_floating_point() or one.is_complex():
            return torch.allclose(one, other, rtol=CLOSE, atol=0.0, equal_nan=True)
        return torch.equal(one, other)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return type(one) is type(other) and bool(one == other)
