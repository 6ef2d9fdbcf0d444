"""Gradients that GradScaler has scaled, in a method that takes several of one mini-batch per step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

REMEDY = (
    "unscales the gradients of its closure by itself: call closure(), then scaler.step(optimizer, closure) and "
    "scaler.update(), without scaler.unscale_(optimizer)"
)


class GradientOverflowError(Exception):
    """A scaled gradient is infinite or NaN: the step does not count."""


def scale_of(optimizer: Any) -> Tensor | None:
    """Return the scale of the GradScaler that calls `step` now; None if none does.

    Raises:
        RuntimeError: if the gradients have been unscaled already, so that the scale is not known.
    """
    if not hasattr(optimizer, "grad_scale"):
        return None
    scale: Tensor | None = optimizer.grad_scale
    if scale is None:
        raise RuntimeError(f"{optimizer.rule.title} {REMEDY}")
    return scale


@contextlib.contextmanager
def unscaled_once(title: str) -> Iterator[None]:
    """Explain the error of a closure that calls `unscale_` itself: GradScaler allows that once per `update`.

    Args:
        title: of the method.

    Raises:
        RuntimeError: with the remedy.
    """
    try:
        yield
    except RuntimeError as error:
        if str(error).startswith("unscale_() "):
            raise RuntimeError(f"{title} {REMEDY}") from error
        raise


def unscale(params: Sequence[Tensor], scale: Tensor | None) -> None:
    """Divide the gradients by a scale.

    Raises:
        GradientOverflowError: if one is not finite.
    """
    if scale is None:
        return
    grads = [p.grad for p in params if p.grad is not None]
    torch._foreach_div_(grads, scale.to(grads[0].device))
    if not all(bool(grad.isfinite().all()) for grad in grads):
        raise GradientOverflowError
