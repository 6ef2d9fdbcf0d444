"""Values and tangents in one pass: PyTorch's forward mode, without its products with zero tangents."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import FunctionType
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Outputs = Callable[[Tensor], Tensor]
"""From points ``[K, P]`` to outputs ``[K, B, C]`` on a fixed mini-batch. Every call draws the same masks."""
ForwardMode = Callable[[Outputs, Tensor, Tensor], tuple[Tensor, Tensor | None]]
"""A function like `forward_mode`."""

LAYERS = {functional.linear, functional.conv1d, functional.conv2d, functional.conv3d}
"""Functions of (input, weight, bias, …), linear in weight and bias."""

FUSED: tuple[Callable[[], bool], ...] = (
    torch.backends.cuda.flash_sdp_enabled,
    torch.backends.cuda.mem_efficient_sdp_enabled,
    torch.backends.cuda.cudnn_sdp_enabled,
)
"""Whether a fused kernel of attention may be chosen."""


def forward_mode(outputs: Outputs, points: Tensor, direction: Tensor) -> tuple[Tensor, Tensor | None]:
    """Compute φ(x) and Jφ(x) z for points x and directions z, ``[K, P]``.

    Returns:
        the outputs, with a graph if gradients are enabled, and their tangent without a graph, None if the outputs do
        not depend on the points.
    """
    _load()
    with uncompiled(), plain_attention():
        return _sparing(outputs, points, direction)


def remembering_forward_mode() -> ForwardMode:
    """Make a `forward_mode` for several directions at one point, on one mini-batch.

    The first pass keeps the values of linear layers and convolutions, most of which backpropagation keeps anyway.
    Later passes compute only tangents there.
    """
    values: list[_Kept] = []

    def forward(outputs: Outputs, points: Tensor, direction: Tensor) -> tuple[Tensor, Tensor | None]:
        _load()
        with uncompiled(), plain_attention(), _Spared(values):
            return _both(outputs, points, direction)

    return forward


def batched_forward_mode(outputs: Outputs, points: Tensor, direction: Tensor) -> tuple[Tensor, Tensor | None]:
    """Do the same as `forward_mode` for outputs that use `torch.vmap`, which hides which tensor is a tangent."""
    _load()
    with uncompiled(), plain_attention():
        return _both(outputs, points, direction)


def uncompiled() -> contextlib.AbstractContextManager[object]:
    """Run compiled models uncompiled: `torch.compile` loses tangents silently."""
    if "torch._dynamo" in sys.modules:  # importing it takes a second, and nothing is compiled without it
        return cast(contextlib.AbstractContextManager[object], torch.compiler.set_stance("force_eager"))
    return contextlib.nullcontext()


def plain_attention() -> contextlib.AbstractContextManager[object]:
    """Compute attention by plain operations: PyTorch's fused kernels have no forward mode."""
    if not any(enabled() for enabled in FUSED):
        return contextlib.nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return cast(contextlib.AbstractContextManager[object], sdpa_kernel(SDPBackend.MATH))


def unspared() -> contextlib.AbstractContextManager[object]:
    """Run operations that are no layers, as the splitting of a vector: `forward_mode` then looks at none of them."""
    nothing_looks: contextlib.AbstractContextManager[object] = torch._C.DisableTorchFunction()
    return nothing_looks


def compiled_forward_mode() -> ForwardMode:
    """Make a `forward_mode` that is compiled together with the model, which must not be an `OptimizedModule` already.

    Make one per model: `torch.compile` counts the recompilations of a code object and gives up at eight. The random
    numbers are those of the uncompiled model, so that all passes draw the same masks.
    """
    _load()
    code_of_this_model = FunctionType(_sparing.__code__.replace(), globals())  # has its own count of recompilations
    return cast(ForwardMode, torch.compile(code_of_this_model, options={"fallback_random": True}))


def _sparing(outputs: Outputs, points: Tensor, direction: Tensor) -> tuple[Tensor, Tensor | None]:
    with _Spared():
        return _both(outputs, points, direction)


def _both(outputs: Outputs, points: Tensor, direction: Tensor) -> tuple[Tensor, Tensor | None]:
    with forward_ad.dual_level():
        value, tangent = _unpack(outputs(_dual(points, direction)))
    return value, None if tangent is None else tangent.detach()


Call = tuple[Any, torch.Size, torch.Size, int]
"""A layer's function, the shapes of its input and its weight, and where the weight lies in memory."""


@dataclass(frozen=True)
class _Kept:
    """The value of a call in the first pass; its version tells whether the model has changed it in place since."""

    call: Call
    value: Tensor
    version: int

    def serves(self, call: Call) -> bool:
        return self.call == call and self.value._version == self.version


class _Spared(TorchFunctionMode):
    """Apply functions that are linear in the operands with a tangent to these tangents alone.

    PyTorch replaces a missing tangent by zeros. It then multiplies the weights of the first layer by the zero tangent
    of the data, and takes a slow path for the product with a dropout mask.

    Args:
        values: of layers, from an earlier pass at the same points: they are not computed again, as long as the model
            takes the same way, but for those that it changes in place. An empty list is filled. None: nothing is kept.
    """

    def __init__(self, values: list[_Kept] | None = None) -> None:
        super().__init__()
        self._values, self._left = values, iter(values) if values else None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in LAYERS and len(args) > 1:
            result = self._layer(func, *args, **kwargs)
            if result is not None:
                return result
        if func is functional.dropout and args and not kwargs.get("inplace"):
            x, dx = _unpack(args[0])
            if dx is not None:
                mask = func(torch.ones_like(x), *args[1:], **kwargs)
                return _dual(x * mask, dx * mask)
        return func(*args, **kwargs)

    def _layer(self, func: Any, x: Any, weight: Any, bias: Any = None, *args: Any, **kwargs: Any) -> Tensor | None:
        """Compute the value and the tangent of a layer; None where PyTorch's own way is left to do it."""
        (x, dx), (weight, dw), (bias, db) = _unpack(x), _unpack(weight), (None, None) if bias is None else _unpack(bias)
        if dx is None and dw is None:  # at most the bias has a tangent
            return None
        if dx is not None and self._values is None:
            return None

        def apply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return cast(Tensor, func(x, weight, bias, *args, **kwargs))

        value = self._value((func, x.shape, weight.shape, weight.data_ptr()), lambda: apply(x, weight, bias))
        db = db if db is None else db.detach()
        along_weight = None if dw is None else apply(x.detach(), dw.detach(), db)
        if dx is None:
            return _dual(value, cast(Tensor, along_weight))
        if along_weight is None:
            return _dual(value, apply(dx.detach(), weight.detach(), db))
        return _dual(value, along_weight.add_(apply(dx.detach(), weight.detach(), None)))

    def _value(self, call: Call, compute: Callable[[], Tensor]) -> Tensor:
        """Return what the first pass has kept of this call, or compute it."""
        if self._left is not None:
            kept = next(self._left, None)
            if kept is not None and kept.serves(call):
                return kept.value
            if kept is None or kept.call != call:
                self._left = iter(())  # the model takes another way, so nothing that follows is known
        value = compute()
        if self._values is not None and self._left is None:
            self._values.append(_Kept(call, value.detach(), value._version))
        return value


@cache
def _load() -> None:
    """Load PyTorch's forward mode, which at its first use warns of its own internals."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore", FutureWarning)
        forward_ad.make_dual(torch.zeros(1), torch.zeros(1))  # type: ignore[no-untyped-call]


def _dual(value: Tensor, tangent: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        return cast(Tensor, forward_ad.make_dual(value, tangent))  # type: ignore[no-untyped-call]
    return torch._VF._make_dual(value, tangent, level=0)  # see `_unpack`


def _unpack(dual: Tensor) -> tuple[Tensor, Tensor | None]:
    if torch.compiler.is_compiling():
        value, tangent = forward_ad.unpack_dual(dual)  # type: ignore[no-untyped-call]
    else:  # the same without its preparations for export, which take as long as a small layer
        value, tangent = torch._VF._unpack_dual(dual, level=0)
    return value, tangent
