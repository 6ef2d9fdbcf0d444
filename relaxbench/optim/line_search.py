"""The strong Wolfe line search as a state machine: one evaluation per call, K members, each in a phase of its own.

A member looks along x + τ d for a step τ at which the loss has fallen enough and its slope is flat enough:

    f(x + τ d) ≤ f(x) + c₁ τ f′(0);  |f′(τ)| ≤ c₂ |f′(0)|

It first lengthens τ until a bracket holds such a step, then shrinks the bracket by cubic interpolation (Nocedal &
Wright, Numerical Optimization, algorithms 3.5 and 3.6, with the safeguards and constants of `torch.optim.LBFGS`). A
loss that is not finite counts as one that is too high, so that the search comes back.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

COLUMNS = (
    "phase",
    "step",
    "value",
    "slope",
    "low",
    "low_value",
    "low_slope",
    "high",
    "high_value",
    "high_slope",
    "tries",
    "wary",
)
"""The numbers of a search: its phase, the next τ, f and f′ at 0, τ, f and f′ at both ends of the bracket (while there
is none, `low` is the step before), evaluations so far, and whether the last interpolation was close to an end."""
START, LENGTHEN, SHRINK = 0.0, 1.0, 2.0
"""Phases: nothing is known at x yet; there is no bracket yet; there is one."""
SUFFICIENT, FLAT = 1e-4, 0.9
"""c₁ and c₂."""
MOST = 25
"""Evaluations of a search, beyond the first; then the best step counts."""
NARROW = 1e-9
"""Length of a bracket, in the largest entry of x, that is not shrunk further."""

Numbers = dict[str, Tensor]


def unpack(search: Tensor) -> Numbers:
    """View searches ``[K, columns]`` as named columns ``[K, 1]``."""
    return dict(zip(COLUMNS, torch.split(search, 1, dim=1), strict=True))


def pack(numbers: Mapping[str, Tensor]) -> Tensor:
    """Undo `unpack`."""
    return torch.cat([numbers[name] for name in COLUMNS], dim=1)


def begin(value: Tensor, slope: Tensor, step: Tensor) -> Numbers:
    """Begin a search at a point with this loss and slope, with a first step to try; all float64 ``[K, 1]``."""
    zero = torch.zeros_like(value)
    numbers = dict.fromkeys(COLUMNS, zero) | {"phase": torch.full_like(value, LENGTHEN)}
    return numbers | {"step": step, "value": value, "slope": slope, "low_value": value, "low_slope": slope}


def advance(now: Numbers, value: Tensor, slope: Tensor, reach: Tensor) -> tuple[Numbers, Tensor, Tensor]:
    """Use an evaluation at `step`.

    Args:
        now: the searches.
        value, slope: f and f′ there, float64 ``[K, 1]``; infinite where they are not finite.
        reach: the largest entry of d.

    Returns:
        the searches with their next `step`; whether the new point is the low end now; whether the search has ended, at
        its low end.
    """
    lengthens, last, step = now["phase"] == LENGTHEN, now["tries"] >= MOST, now["step"]
    too_high = value > now["value"] + SUFFICIENT * step * now["slope"]
    flat = slope.abs() <= -FLAT * now["slope"]
    rises = too_high | ((value >= now["low_value"]) & (~lengthens | (now["tries"] > 1)))
    found = ~rises & flat
    goes_on = lengthens & ~rises & ~flat & (slope < 0) & ~last
    lower = (value < now["low_value"]) | (lengthens & (found | goes_on))

    behind = ~rises & (slope * (now["high"] - now["low"]) >= 0)  # the minimum is between the new point and the old low
    turns = lower & torch.where(lengthens, ~goes_on, rises | behind)
    new = {"": step, "_value": value, "_slope": slope}
    then = dict(now)
    for part, here in new.items():
        low, high = now[f"low{part}"], now[f"high{part}"]
        then[f"low{part}"] = torch.where(lower, here, low)
        then[f"high{part}"] = torch.where(lower, torch.where(turns, low, high), here)
    narrow = (then["high"] - then["low"]).abs() * reach < NARROW
    ended = found | (~goes_on & (last | narrow))

    longer = _cubic(*_ends(now), step, value, slope, step + 0.01 * (step - now["low"]), 10 * step)
    shorter, wary = _inside(then)
    then["step"] = torch.where(goes_on, longer, shorter)
    then["wary"] = torch.where(goes_on, torch.zeros_like(wary), wary)
    then["phase"] = torch.where(goes_on, now["phase"], torch.full_like(step, SHRINK))
    then["tries"] = now["tries"] + 1
    return then, lower, ended


def _ends(now: Numbers, which: str = "low") -> tuple[Tensor, Tensor, Tensor]:
    return now[which], now[f"{which}_value"], now[f"{which}_slope"]


def _inside(now: Numbers) -> tuple[Tensor, Tensor]:
    """Interpolate within the bracket; the second time in a row that this is close to an end, step away from it."""
    left, right = torch.minimum(now["low"], now["high"]), torch.maximum(now["low"], now["high"])
    step = _cubic(*_ends(now), *_ends(now, "high"), left, right)
    margin = 0.1 * (right - left)
    close = torch.minimum(right - step, step - left) < margin
    moves = close & ((now["wary"] > 0) | (step >= right) | (step <= left))
    away = torch.where((step - right).abs() < (step - left).abs(), right - margin, left + margin)
    return torch.where(moves, away, step), (close & ~moves).to(step.dtype)


def _cubic(
    x1: Tensor, f1: Tensor, g1: Tensor, x2: Tensor, f2: Tensor, g2: Tensor, least: Tensor, most: Tensor
) -> Tensor:
    """Minimize the cubic with these values and slopes, within limits; return their middle if it has no minimum."""
    first = x1 <= x2
    left, right = torch.where(first, x1, x2), torch.where(first, x2, x1)
    left_slope, right_slope = torch.where(first, g1, g2), torch.where(first, g2, g1)
    mean = g1 + g2 - 3 * (f1 - f2) / (x1 - x2)
    square = mean * mean - g1 * g2
    root = square.clamp(min=0).sqrt()
    minimum = right - (right - left) * ((right_slope + root - mean) / (right_slope - left_slope + 2 * root))
    exists = (square >= 0) & torch.isfinite(minimum)
    return torch.where(exists, torch.minimum(torch.maximum(minimum, least), most), (least + most) / 2)
