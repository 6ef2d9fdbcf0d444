"""Watch what a model does with its activations, by calling it with something that only notes what is asked of it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from relaxbench.problems.seeding import torch_seeded

ELEMENTWISE = frozenset(
    {
        *(functional.relu, functional.relu6, functional.leaky_relu, functional.elu, functional.selu, functional.celu),
        *(functional.gelu, functional.silu, functional.mish, functional.hardtanh, functional.hardswish),
        *(functional.softplus, functional.softsign, functional.tanhshrink, functional.dropout),
        *(torch.relu, torch.tanh, torch.sigmoid, torch.sin, torch.cos, torch.exp, torch.square),
    }
)
"""Functions that compute every number from that number alone, in whatever order the numbers lie in memory."""
METHODS = frozenset({"relu", "tanh", "sigmoid", "sin", "cos", "exp", "square"})
"""Methods of a tensor that do."""
FACTS = frozenset({"shape", "size", "dtype", "device", "ndim", "dim", "numel", "requires_grad"})
"""What may be asked of a tensor, whatever its layout."""


class Activation:
    """An activation and what was computed from it element by element, which have one layout.

    Attributes:
        weight: of the linear layer that gave it, or None.
        into: weights of the linear layers that take it.
        only_linear: whether nothing else takes it.
    """

    def __init__(self, weight: Tensor | None = None) -> None:
        self.weight = weight
        self.into: list[Tensor] = []
        self.only_linear = True


class _Watched:
    """Stands for a tensor in a forward pass, and notes what takes it."""

    __iter__ = None  # its length is not known

    def __init__(self, notes: list[Activation], activation: Activation) -> None:
        self._notes, self._activation = notes, activation

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> _Watched:
        first, *others = _watched((args, kwargs))
        if not others and args[:1] == (first,):
            if function in ELEMENTWISE:
                return first
            if function is functional.linear and len(args) > 1:  # as `nn.Linear` calls it
                first._activation.into.append(args[1])
                return _new(first._notes, args[1])
        return first._taken(others)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in METHODS:
            return lambda: self
        return _new(self._notes) if name in FACTS else self._taken()

    def __call__(self, *args: Any, **kwargs: Any) -> _Watched:
        return self._taken(_watched((args, kwargs)))

    def __getitem__(self, place: Any) -> _Watched:
        return self._taken(_watched(place))

    def _with(self, other: Any) -> _Watched:
        """Combine it with another operand: a number leaves the layout as it is."""
        return self if isinstance(other, int | float) else self._taken(_watched(other))

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __pow__ = _with
    __matmul__ = __rmatmul__ = _with

    def _taken(self, others: Iterable[_Watched] = ()) -> _Watched:
        """Note that it and others are taken by something that is no linear layer."""
        for each in (self, *others):
            each._activation.only_linear = False
        return _new(self._notes)


def activations_of(model: nn.Module) -> list[Activation]:
    """Return the activations of a forward pass, which computes nothing and leaves the model as it is.

    Args:
        model: with a ``forward`` whose required arguments are tensors.

    Raises:
        Exception: of any type, if ``forward`` needs real tensors: their numbers, or their shapes.
    """
    own = copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
    notes: list[Activation] = []
    required = [p for p in inspect.signature(model.forward).parameters.values() if p.default is inspect.Parameter.empty]
    with torch.no_grad(), torch_seeded(0):
        result = own(*(_new(notes) for each in required if each.kind is not inspect.Parameter.VAR_KEYWORD))
    first, *others = _watched(result)
    first._taken(others)
    return notes


def _new(notes: list[Activation], weight: Tensor | None = None) -> _Watched:
    notes.append(Activation(weight))
    return _Watched(notes, notes[-1])


def _watched(value: object) -> Iterator[_Watched]:
    """Yield what stands for a tensor, in collections too."""
    if isinstance(value, _Watched):
        yield value
    elif isinstance(value, Mapping):
        yield from _watched([*value.values()])
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _watched(each)
