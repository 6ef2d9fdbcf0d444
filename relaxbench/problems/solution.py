"""A trained solution beside the exact one on a grid, for figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SIDE = {1: 257, 2: 48}
"""Points along an axis, by the number of axes; a solution of more is not shown."""


@dataclass(frozen=True)
class Solution:
    """A solution with one or two coordinates, on a grid with its corners.

    Attributes:
        quantity: what is shown, as ``"u"``.
        coordinates: names of the axes.
        low, high: the ends of every axis.
        exact: ``[n]``, or ``[n, n]`` with the first coordinate first.
        error: of the trained solution, its value less the exact one; as `exact`.
    """

    quantity: str
    coordinates: Sequence[str]
    low: Sequence[float]
    high: Sequence[float]
    exact: Tensor
    error: Tensor


def solution_on(
    low: Sequence[float],
    high: Sequence[float],
    exact: Callable[[Tensor], Tensor],
    trained: Callable[[Tensor], Tensor],
    quantity: str,
    coordinates: Sequence[str],
) -> Solution | None:
    """Evaluate both on a grid of the box; None for a box with more than two axes.

    Args:
        low, high: corners of the box.
        exact: maps points ``[N, d]``, float64, to values ``[N, C]``; the first of C functions is shown.
        trained: the same for the trained solution.
        quantity: see `Solution`.
        coordinates: names of the axes, at least as many as there are.
    """
    if len(low) not in SIDE:
        return None
    side = SIDE[len(low)]
    axes = [torch.linspace(start, end, side, dtype=torch.float64) for start, end in zip(low, high, strict=True)]
    points = torch.cartesian_prod(*axes).view(-1, len(low))
    known, found = (function(points)[:, 0].view([side] * len(low)) for function in (exact, trained))
    return Solution(quantity, coordinates[: len(low)], low, high, known, found - known)
