"""Weights that other code has written into the parameters: clamping, assignment, loading."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from relaxbench.optim.rule import Rule, State


def positions_of(rule: Rule, x: Tensor) -> frozenset[str]:
    """Return the entries of a rule's state that are points: they move with the parameters at which it begins."""
    seed = torch.zeros(1, 1, dtype=torch.int64, device=x.device)
    at_zero, at_one = rule.init(torch.zeros_like(x), seed), rule.init(torch.ones_like(x), seed)
    return frozenset(name for name, start in at_zero.items() if bool((at_one[name] - start == 1).all()))


def differ(a: Tensor, b: Tensor) -> Tensor:
    """Compare elements; NaN equals NaN."""
    return (a != b) & ~(a.isnan() & b.isnan())


def agree(state: State, names: Collection[str], point: Tensor) -> bool:
    """Check that some entries of the state, ``[1, P]`` or ``[1, n, P]``, all lie at a point ``[1, P]``."""
    return not any(bool(differ(state[name], _like(point, state[name])).any()) for name in names)


def move(state: State, names: Collection[str], changed: Tensor, here: Tensor, there: Tensor) -> None:
    """Move entries of the state from one point to another, each by the same way.

    Args:
        state: the entries are written.
        names: which entries.
        changed: the elements that move, bool ``[1, P]``.
        here: the old point ``[1, P]``; what lies exactly there arrives exactly.
        there: the new point ``[1, P]``.
    """
    for name in names:
        value = state[name]
        was, new, moves = (_like(part, value) for part in (here, there, changed))
        arrived = torch.where(value == was, new, value + (new - was))
        state[name] = torch.where(moves, arrived, value)


def _like(point: Tensor, value: Tensor) -> Tensor:
    return point if value.dim() == point.dim() else point[:, None]
