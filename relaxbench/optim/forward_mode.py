"""Values and tangents in one pass: PyTorch's forward mode, spared what it would multiply by zero."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Outputs = Callable[[Tensor], Tensor]
"""From points ``[K, P]`` to outputs ``[K, B, C]`` on a fixed mini-batch. Called again, it draws the same masks."""
ForwardMode = Callable[[Outputs, Tensor, Tensor], tuple[Tensor, Tensor | None]]
"""As `forward_mode`."""

LAYERS = {functional.linear, functional.conv1d, functional.conv2d, functional.conv3d}
"""Functions of (input, weight, bias, …), linear in weight and bias."""


def forward_mode(outputs: Outputs, points: Tensor, direction: Tensor) -> tuple[Tensor, Tensor | None]:
    """φ(x) and Jφ(x) z for points x and directions z, ``[K, P]``.

    Returns:
        the outputs, with the graph to pull through where gradients are enabled, and their tangent without one; None
        where outputs do not depend on the points.
    """
    _load()
    with uncompiled():
        return _sparing(outputs, points, direction)


def batched_forward_mode(outputs: Outputs, points: Tensor, direction: Tensor) -> tuple[Tensor, Tensor | None]:
    """`forward_mode` for outputs that use `torch.vmap`, under which a value cannot be told from its tangent."""
    _load()
    with uncompiled():
        return _both(outputs, points, direction)


def uncompiled() -> contextlib.AbstractContextManager[object]:
    """Compiled models run as what they were compiled from: `torch.compile` loses tangents without a word."""
    if "torch._dynamo" in sys.modules:  # importing it takes a second, and nothing is compiled without it
        return cast(contextlib.AbstractContextManager[object], torch.compiler.set_stance("force_eager"))
    return contextlib.nullcontext()


def compiled_forward_mode() -> ForwardMode:
    """`forward_mode`, to be compiled with the model in it, which must not be an `OptimizedModule` already.

    For one model: `torch.compile` counts how often a piece of code is compiled again and gives up at eight.
    Its random numbers are those of the model when it is not compiled, so that all passes draw the same masks.
    """
    _load()

    own = FunctionType(_sparing.__code__.replace(), globals())  # code of its own is counted alone
    return cast(ForwardMode, torch.compile(own, options={"fallback_random": True}))


def _sparing(outputs: Outputs, points: Tensor, direction: Tensor) -> tuple[Tensor, Tensor | None]:
    with _Spared():
        return _both(outputs, points, direction)


def _both(outputs: Outputs, points: Tensor, direction: Tensor) -> tuple[Tensor, Tensor | None]:
    with forward_ad.dual_level():
        value, tangent = _unpack(outputs(_dual(points, direction)))
    return value, None if tangent is None else tangent.detach()


class _Spared(TorchFunctionMode):
    """Functions that are linear in what has a tangent, applied to it alone.

    PyTorch takes a tangent that an operand does not have for a tensor of zeros. It then multiplies the first layer's
    weights by the zero tangent of the data, and takes a slow path through the product with a dropout mask.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in LAYERS and len(args) > 1:
            (x, dx), (weight, dw) = _unpack(args[0]), _unpack(args[1])
            bias, db = _unpack(args[2]) if len(args) > 2 and args[2] is not None else (None, None)
            if dx is None and dw is not None and (bias is None) == (db is None):
                value = func(x, weight, bias, *args[3:], **kwargs)
                return _dual(value, func(x, dw.detach(), db if db is None else db.detach(), *args[3:], **kwargs))
        if func is functional.dropout and args and not kwargs.get("inplace"):
            x, dx = _unpack(args[0])
            if dx is not None:
                mask = func(torch.ones_like(x), *args[1:], **kwargs)
                return _dual(x * mask, dx * mask)
        return func(*args, **kwargs)


@cache
def _load() -> None:
    """PyTorch loads its forward mode at the first use, and then warns of a part of its own."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore", FutureWarning)
        _dual(torch.zeros(1), torch.zeros(1))


def _dual(value: Tensor, tangent: Tensor) -> Tensor:
    return cast(Tensor, forward_ad.make_dual(value, tangent))  # type: ignore[no-untyped-call]


def _unpack(dual: Tensor) -> tuple[Tensor, Tensor | None]:
    value, tangent = forward_ad.unpack_dual(dual)  # type: ignore[no-untyped-call]
    return value, tangent
