"""Compute in float64 what a model computes in float32 because it says so: ``x.float() / 255`` of images in bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class _Lifted(TorchFunctionMode):
    """Every conversion to float32 is one to float64."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        called = Tensor.double if func is Tensor.float else func
        named = {name: _double(value) for name, value in (kwargs or {}).items()}
        return called(*(_double(value) for value in args), **named)


def lifted() -> TorchFunctionMode:
    """Return a context in which conversions to float32 are conversions to float64.

    The default type stays: a model that is built, or keeps a new tensor, within it would otherwise be another one.
    """
    return _Lifted()


def _double(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value
