"""Schedules of step sizes and of the scope γ, shared by all rules (Deep Relaxation, arXiv 1704.04932, section 4).

Progress is the share of the outer steps in the budget that are completed, in [0, 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from relaxbench.recording import recording

WARMUP = 0.05
"""Share of the budget over which "warmup" rises linearly before its cosine."""
STEPS, FACTOR = (0.3, 0.6, 0.9), 0.2
"""Progress at which "step" lowers the step size, and the factor (published: ÷5 every 30 of 100 epochs)."""


def step_size(kind: Tensor, progress: Tensor) -> Tensor:
    """Compute the factor on a step size.

    Args:
        kind: index into `hyper.SCHEDULES` (constant, step, cosine, warmup), any float tensor.
        progress: broadcasts with `kind`.
    """

    def steps() -> Tensor:
        factor = torch.ones_like(progress)
        for at in STEPS:  # products, because `pow` may round the last few numbers of a tensor differently
            factor = torch.where(progress >= at, FACTOR * factor, factor)
        return factor

    def warmup() -> Tensor:
        rise = (progress + WARMUP / 10) / (WARMUP + WARMUP / 10)  # above zero, so that the first step counts
        return torch.where(progress < WARMUP, rise, _cosine((progress - WARMUP) / (1 - WARMUP)))

    return _pick(kind, [lambda: torch.ones_like(progress), steps, lambda: _cosine(progress), warmup])


def warm_up(share: Tensor, progress: Tensor) -> Tensor:
    """Compute the factor on a step size that rises linearly to 1 and stays there; the rise is that of "warmup".

    Args:
        share: share of the budget over which it rises; 0 for no rise.
        progress: broadcasts with `share`.
    """
    rise = (progress + share / 10) / (share + share / 10)
    return torch.where(progress < share, rise, torch.ones_like(progress))


def scope(kind: Tensor, start: Tensor, end: Tensor, progress: Tensor) -> Tensor:
    """Compute γ (or σ², or ρ) between `start` and `end`.

    The papers' γ_k = γ_0 (1 − γ_1)^k over n outer steps is "geometric" from γ_0 to γ_0 (1 − γ_1)ⁿ. Released code counts
    g = 1/γ: g_0 = 1/γ_0 and 1 + g_1 = 1/(1 − γ_1).

    Args:
        kind: index into `hyper.SCOPINGS` (geometric, linear, cosine, constant at the start, constant at the geometric
            mean of start and end, which is that of the geometric curve).
        start: the value at progress 0, positive.
        end: the value at progress 1, positive.
        progress: broadcasts with the others.
    """
    return _pick(
        kind,
        [
            lambda: start * torch.exp(progress * torch.log(end / start)),
            lambda: start * (1 - progress) + end * progress,  # reaches `end` itself, in any precision
            lambda: end + (start - end) * _cosine(progress),
            lambda: _expanded(start, progress),
            lambda: _expanded(start.sqrt() * end.sqrt(), progress),  # of the roots, because a product could overflow
        ],
    )


def _expanded(value: Tensor, other: Tensor) -> Tensor:
    """Expand a value to its shape when it broadcasts with another; `torch.broadcast_shapes` imports sympy for 0.4 s."""
    expanded: Tensor = torch.broadcast_tensors(value, other)[0]  # type: ignore[no-untyped-call]
    return expanded


def _cosine(progress: Tensor) -> Tensor:
    return 0.5 * (1 + torch.cos(math.pi * progress))


def _pick(kind: Tensor, curves: Sequence[Callable[[], Tensor]]) -> Tensor:
    """Compute the curve with a number; of a single member on the CPU no other one, because steps are short there."""
    if kind.numel() == 1 and kind.device.type == "cpu" and not recording() and 0 <= int(kind) < len(curves):
        return _expanded(curves[int(kind)](), kind)
    picked = curves[0]()
    for index, curve in enumerate(curves[1:], start=1):
        picked = torch.where(kind == index, curve(), picked)
    return picked
