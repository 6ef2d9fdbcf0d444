"""A model's parameters as one vector, the form that a rule works on."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from relaxbench.optim.drop_in.writes import differ


class Flat:
    """Parameters that need a gradient, concatenated.

    The vector is at least float32. A model in half precision is trained with full-precision weights next to it, as
    mixed precision requires; its parameters are these weights, rounded.

    Args:
        params: parameters on one device.

    Raises:
        ValueError: if there are none, if they lie on several devices, or if one has no values yet.
        TypeError: if one is complex.
    """

    def __init__(self, params: Sequence[Tensor]) -> None:
        self.params = list(params)
        if not self.params:
            raise ValueError("no parameter needs a gradient: expected at least one with requires_grad = True")
        for p in self.params:
            if p.is_complex():
                raise TypeError(
                    f"a parameter of shape {tuple(p.shape)} is complex ({p.dtype}): expected real ones; optimize its "
                    "real and imaginary parts"
                )
            if p.is_meta:
                raise ValueError(
                    f"a parameter of shape {tuple(p.shape)} has no values yet (device meta): make the optimizer after "
                    "the model has its weights"
                )
        devices = sorted({str(p.device) for p in self.params})
        if len(devices) > 1:
            raise ValueError(f"the parameters lie on {' and '.join(devices)}: expected one device")
        self.shapes = [p.shape for p in self.params]
        self.sizes = [p.numel() for p in self.params]
        self.kinds = [(p.dtype, p.device) for p in self.params]
        self.dtype = torch.float32
        for p in self.params:
            self.dtype = torch.promote_types(self.dtype, p.dtype)
        self._last: weakref.ref[Tensor] | None = None
        self._parts: list[Tensor] = []

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the views of a point, which a copy does not share."""
        return {**self.__dict__, "_last": None, "_parts": []}

    def values(self) -> Tensor:
        """Return the parameters, ``[1, P]``."""
        return self._join([p.detach() for p in self.params])

    def gradients(self) -> Tensor:
        """Return the gradients, ``[1, P]``, see `gradient_parts`."""
        return self._join(self._gradients())

    def gradient_parts(self) -> list[Tensor]:
        """Return the gradient of each parameter as a vector ``[1, …]``, not copied where it is one already."""
        return [grad.reshape(1, -1).to(self.dtype) for grad in self._gradients()]

    def _gradients(self) -> list[Tensor]:
        """Return the gradients; one that is None (its parameter was not used) counts as zero.

        Raises:
            TypeError: if one is sparse.
            RuntimeError: if a parameter has been frozen, or moved to another device or type; if none has a gradient.
        """
        if all(p.grad is None for p in self.params):
            raise RuntimeError("no parameter has a gradient: call loss.backward() before step(), or in its closure")
        grads = []
        for p, kind in zip(self.params, self.kinds, strict=True):
            if not p.requires_grad or (p.dtype, p.device) != kind:
                raise RuntimeError(
                    f"a parameter of shape {tuple(p.shape)} has been frozen, moved or given another type since the "
                    "optimizer was made: make a new optimizer after such a change"
                )
            if p.grad is None:
                grads.append(torch.zeros_like(p))
                continue
            if p.grad.is_sparse:
                raise TypeError(
                    f"the gradient of a parameter of shape {tuple(p.shape)} is sparse: expected dense ones; build the "
                    "embedding with sparse=False"
                )
            grads.append(p.grad)
        return grads

    def write(self, point: Tensor) -> None:
        """Put a point ``[1, P]`` into the parameters."""
        torch._foreach_copy_(self.params, self._views(point))

    def holds(self, point: Tensor) -> bool:
        """Check that the parameters have the values of a point ``[1, P]``. Version counters miss writes to `p.data`.

        Raises:
            RuntimeError: if a parameter has been moved to another device, or given another shape.
        """
        if not point.is_cuda:
            with contextlib.suppress(RuntimeError):  # not comparable: the causes are told below
                if all(map(torch.equal, self.params, self._views(point))):
                    return True
        for p, shape in zip(self.params, self.shapes, strict=True):
            if p.shape != shape or p.device != point.device:
                raise RuntimeError(
                    f"a parameter of shape {tuple(shape)} has been moved or given another shape since the optimizer "
                    "was made: make a new optimizer after such a change"
                )
        if point.is_cuda and all(p.dtype == self.dtype for p in self.params):  # wait for the device once
            return torch.equal(self.values(), point)
        return all(torch.equal(p, v.to(p.dtype)) for p, v in zip(self.params, self._views(point), strict=True))

    def changed(self, point: Tensor) -> Tensor:
        """Return which elements of the parameters are not those of a point, bool ``[1, P]``; NaN equals NaN."""
        pairs = zip(self.params, self._views(point), strict=True)
        return torch.cat([differ(p.detach(), v.to(p.dtype)).reshape(-1) for p, v in pairs])[None]

    def _views(self, point: Tensor) -> list[Tensor]:
        again = self._last is not None and self._last() is point
        if again and self._parts:  # most rules query the same tensor every time
            return self._parts
        parts = torch.split(point[0], self.sizes)
        views = [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]
        # Views of a point that is queried once are not kept, because they would hold its memory.
        self._last, self._parts = weakref.ref(point), views if again else []
        return views

    def _join(self, tensors: list[Tensor]) -> Tensor:
        return torch.cat([t.reshape(-1) for t in tensors]).to(self.dtype)[None]
