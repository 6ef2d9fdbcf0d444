"""`torch.vmap` for tensors and dicts of tensors: it does not look for them in arguments of any structure."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, vmap
from torch._C._functorch import (
    _add_batch_dim,
    _remove_batch_dim,
    _vmap_decrement_nesting,
    _vmap_increment_nesting,
)

Result = TypeVar("Result")


def batched(function: Callable[..., Result]) -> Callable[..., Result]:
    """Make a function that is called once for all members, as `torch.vmap` does.

    Args:
        function: of one member: its arguments and its result are tensors, or dicts of tensors.

    Returns:
        the function of K members: all tensors have a first axis K.
    """

    def run(*arguments: Any) -> Result:
        _load()
        first = arguments[0]
        size = len(first if isinstance(first, Tensor) else next(iter(first.values())))
        level = _vmap_increment_nesting(size, "error")
        try:
            result = function(*(_each(argument, lambda t: _add_batch_dim(t, 0, level)) for argument in arguments))
            return cast(Result, _each(result, lambda t: _remove_batch_dim(t, level, size, 0)))
        finally:
            _vmap_decrement_nesting()

    return run


@cache
def _load() -> None:
    """Have PyTorch load the operations that it takes apart under `vmap`, as it does when that is first called."""
    vmap(torch.neg)(torch.zeros(1))


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    return {name: change(part) for name, part in value.items()} if isinstance(value, dict) else change(value)
