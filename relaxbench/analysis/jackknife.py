"""The variance of the all-subsets estimate: leave out one block at a time.

Blocks are independent, so pseudo-values θ̃_b = R θ̂ − (R − 1) θ̂_(−b) behave like R independent estimates of θ
(Tukey 1958; Arvesen 1969 for U-statistics), and V = var(θ̃) / R, on average not too small (Efron and Stein 1981).

θ̂_(−b) ranks the remaining N − T trials anew and uses those of the best K that remain, with the weights of N − T
trials. A trial that comes among the best K only now has no run on a fresh seed and is not needed: its weight is below
`all_subsets.LEFT_OUT`, and V with and without such trials correlates at 0.999.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from relaxbench.analysis.all_subsets import checked, rank_weights, ranking, weighted_mean
from relaxbench.analysis.arm import Arm, arm_of_parts
from relaxbench.analysis.log_scale import Array
from relaxbench.analysis.winsorized import winsorized


def best_of_random(values: ArrayLike, logs: ArrayLike, confirmed: int | None = None, *, in_full: bool = True) -> Arm:
    """The best of T among R blocks of T independent random trials, with the jackknife's variance over blocks.

    Args: values: validation losses, ``[..., R, T]``. logs: log test metric of the same trials on fresh seeds; NaN
        where there is none. All of the best K are needed for a verdict, see `all_subsets.best_of_subsets`.
        confirmed: K; None for `all_subsets.confirmed_ranks`.
        in_full: every run counts in full; otherwise a disaster counts little, see `winsorized`.

    Raises:
        ValueError: different shapes, or K is not within 1 … N.
    """
    pseudo, estimate = pseudo_values(values, logs, confirmed, in_full=in_full)
    return arm_of_parts(estimate, pseudo)


def pseudo_values(
    values: ArrayLike, logs: ArrayLike, confirmed: int | None = None, *, in_full: bool = True
) -> tuple[Array, Array]:
    """θ̃_b ``[..., R]`` and θ̂ ``[...]``; arguments as for `best_of_random`. A single block has θ̃ = NaN."""
    values, logs, count = checked(values, logs, confirmed)
    blocks, size = values.shape[-2:]
    order = ranking(values)[..., :count]
    top = np.take_along_axis(logs.reshape(*logs.shape[:-2], -1), order, axis=-1)
    owner, place = order // size, np.arange(count)
    counted = np.asarray if in_full else winsorized
    estimate = weighted_mean(counted(top), np.broadcast_to(rank_weights(blocks * size, size)[:count], top.shape))
    if blocks == 1:
        return np.full((*estimate.shape, 1), np.nan), estimate
    chance = rank_weights((blocks - 1) * size, size)
    pseudo = np.empty((*estimate.shape, blocks))
    for block in range(blocks):
        left = owner == block
        rank = np.minimum(place - np.cumsum(left, axis=-1) * ~left, len(chance) - 1)
        without = weighted_mean(counted(np.where(left, np.nan, top)), chance[rank])
        pseudo[..., block] = estimate + (blocks - 1) * (estimate - without)
    return pseudo, estimate
