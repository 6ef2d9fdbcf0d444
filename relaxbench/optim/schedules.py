"""Schedules, shared by all rules: of step sizes and of the scope γ (Deep Relaxation, arXiv 1704.04932, section 4).

Progress is the share of the budget's outer steps that is completed, in [0, 1).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

WARMUP = 0.05
"""Share of the budget over which "warmup" rises linearly before its cosine."""
STEPS, FACTOR = (0.3, 0.6, 0.9), 0.2
"""Where "step" divides the step size, and what it is multiplied by there (published: ÷5 every 30 of 100 epochs)."""


def step_size(kind: Tensor, progress: Tensor) -> Tensor:
    """The factor on a step size.

    Args:
        kind: index into `hyper.SCHEDULES` (constant, step, cosine, warmup), any float tensor.
        progress: broadcasts with `kind`.
    """
    one = torch.ones_like(progress)
    steps = one  # products: `pow` may round the last few numbers of a tensor differently from the rest
    for at in STEPS:
        steps = torch.where(progress >= at, FACTOR * steps, steps)
    cosine = _cosine(progress)
    rise = (progress + WARMUP / 10) / (WARMUP + WARMUP / 10)  # the first step is not wasted on a step size of zero
    warmup = torch.where(progress < WARMUP, rise, _cosine((progress - WARMUP) / (1 - WARMUP)))
    return _pick(kind, [one, steps, cosine, warmup])


def scope(kind: Tensor, start: Tensor, end: Tensor, progress: Tensor) -> Tensor:
    """γ (or σ²) on its way from `start` to `end`.

    Args:
        kind: index into `hyper.SCOPINGS` (geometric, linear, cosine, constant).
        start: the value at progress 0, positive.
        end: the value that progress 1 would have, positive.
        progress: broadcasts with the others.
    """
    geometric = start * torch.exp(progress * torch.log(end / start))
    linear = start * (1 - progress) + end * progress  # reaches `end` itself, in any precision
    cosine = end + (start - end) * _cosine(progress)
    return _pick(kind, [geometric, linear, cosine, start.expand_as(linear)])


def geometric_end(gamma_0: float, gamma_1: float, outer_steps: int, gamma_min: float = 0.0) -> float:
    """The `gamma_end` of the papers' γ_k = max(γ_0 (1 − γ_1)^k, γ_min) after `outer_steps` steps.

    The whole schedule is that of "geometric" scoping as long as γ_min is not reached before the last step.

    Released code counts g = 1/γ: g_0 = 1/γ_0 and 1 + g_1 = 1/(1 − γ_1).

    Raises:
        ValueError: if γ_0 is not positive or γ_1 not in [0, 1).
    """
    if gamma_0 <= 0 or not 0 <= gamma_1 < 1:
        raise ValueError(f"gamma_0 = {gamma_0} must be positive and gamma_1 = {gamma_1} in [0, 1)")
    return max(gamma_0 * (1 - gamma_1) ** outer_steps, gamma_min)


def _cosine(progress: Tensor) -> Tensor:
    return 0.5 * (1 + torch.cos(math.pi * progress))


def _pick(kind: Tensor, curves: list[Tensor]) -> Tensor:
    picked = curves[0]
    for index, curve in enumerate(curves[1:], start=1):
        picked = torch.where(kind == index, curve, picked)
    return picked
