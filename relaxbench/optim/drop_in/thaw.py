"""Parameters that begin to need a gradient after the optimizer was made (gradual unfreezing)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from relaxbench.optim.rule import State


def positions(kept: Collection[int], params: Sequence[Tensor]) -> Tensor:
    """Return where the elements of some parameters lie in the vector of all trained ones, int64 ``[P_kept]``.

    Args:
        kept: ids of those parameters.
        params: all trained parameters, in the order of the vector.
    """
    flags = [torch.full((p.numel(),), id(p) in kept) for p in params]
    return torch.cat(flags).nonzero()[:, 0].to(params[0].device)


def merge(old: State, fresh: State, where: Tensor, ages: Collection[str]) -> State:
    """Let new parameters begin as in a new optimizer, while all others go on.

    Args:
        old: the state without the new parameters.
        fresh: a new state with them.
        where: positions of the old elements in the new vector, see `positions`.
        ages: entries that count the past; with new parameters each parameter has its own count.
    """
    merged = {}
    for name, start in fresh.items():
        value = old[name]
        if name in ages:
            start = start.expand(*start.shape[:-1], fresh["x"].shape[-1]).clone()
            value = value.expand(*value.shape[:-1], where.numel())
        merged[name] = insert(value, start, where)
    return merged


def insert(old: Tensor, fresh: Tensor, where: Tensor) -> Tensor:
    """Put elements ``[..., P_old]`` into a new vector ``[..., P]``; other tensors stay as they are."""
    if old.shape == fresh.shape:
        return old.clone()
    return fresh.index_copy(-1, where, old)
