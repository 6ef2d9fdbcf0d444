"""The complete U-statistic of "the best of T": one estimate from all T-subsets of N = T R random trials.

Disjoint blocks use R of the C(N, T) ways to draw T trials. All of them together are the mean over ranks

    θ̂ = Σ_{j ≤ K} w_j ℓ_(j) / Σ_{j ≤ K} w_j,    w_j = C(N − j, T − 1) / C(N, T),

where ℓ_(j) is the log test metric, on a fresh seed, of the trial of rank j by validation loss, and w_j is the chance
that the best of T trials drawn without replacement has rank j (Hoeffding 1948; for the best of T of N: Dodge et al.
2019). Only the best K need a run on a fresh seed. The others have at most the weight `LEFT_OUT`: the estimate is that
of the best of T, given that it is among the best K. With T = 12 a third suffices. With few trials per block it does
not: the best third holds the best of 3 in only 70 % of draws.

Ranks are those of `store.winners`: lowest validation loss first, values that are not finite last, ties in the order
of the plan (block, then number). With this order every T-subset has exactly one winner, and θ̂ is the mean over
subsets without exception. Ranks depend on validation losses alone, and ℓ on fresh seeds, so choosing what to
confirm does not bias ℓ.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxbench.analysis.log_scale import Array

LEFT_OUT = 0.01
"""At most this much weight may lie on ranks without a run on a fresh seed."""

SHARE = 3
"""At least one in this many trials is confirmed: the best third."""


def confirmed_ranks(trials: int, size: int) -> int:
    """K, how many of the best trials are run on fresh seeds: ⌈N/3⌉, more where that leaves out over `LEFT_OUT`.

    Args:
        trials: N.
        size: T, the tuning budget in trials; 1 ≤ T ≤ N.

    Raises:
        ValueError: T is not within 1 … N.
    """
    if not 1 <= size <= trials:
        raise ValueError(f"the best of {size} cannot be drawn from {trials} trials")
    reached = np.cumsum(rank_weights(trials, size))
    enough = int(np.searchsorted(reached, 1 - LEFT_OUT - 1e-12)) + 1
    return max(math.ceil(trials / SHARE), min(enough, trials))


def rank_weights(trials: int, size: int) -> Array:
    """w_j for j = 1 … N, ``[N]``: the chance that the best of `size` trials has rank j among `trials`."""
    return np.asarray(weights(trials, np.array([size]))[0])


def weights(trials: int, sizes: NDArray[np.int64]) -> Array:
    """P(the best of n drawn without replacement is the j-th best of all), ``[sizes, N]``.

    It is C(N − j, n − 1) / C(N, n), computed as products of ratios, which neither overflow nor cancel.

    Args:
        trials: N.
        sizes: values of n, none above N.
    """
    n, rank = np.asarray(sizes)[:, None], np.arange(1, trials)
    ratios = np.maximum(trials - rank - n + 1, 0) / (trials - rank)
    return np.asarray(np.cumprod(np.concatenate([n / trials, ratios], axis=1), axis=1))


def ranking(values: ArrayLike) -> NDArray[np.int64]:
    """Order of trials by validation loss, best first: ``[..., R, T]`` → indices into the flat blocks ``[..., N]``."""
    flat = _flat(np.asarray(values, dtype=float))
    return np.argsort(np.where(np.isfinite(flat), flat, np.inf), axis=-1, kind="stable")


def best_of_subsets(values: ArrayLike, logs: ArrayLike, confirmed: int | None = None) -> tuple[Array, Array]:
    """θ̂ and the share of the weight Σ_{j ≤ K} w_j that confirmed runs hold, ``[...]`` each.

    The share is 1 when all K are confirmed. Below 1 the estimate describes what has been run so far: which runs are
    missing may depend on their results, so no verdict may rest on it.

    Args:
        values: validation losses of R blocks of T trials, ``[..., R, T]``.
        logs: log test metric of the same trials on fresh seeds; NaN where there is none.
        confirmed: K; None for `confirmed_ranks`.

    Raises:
        ValueError: different shapes, or K is not within 1 … N.
    """
    values, logs, count = checked(values, logs, confirmed)
    top = np.take_along_axis(_flat(logs), ranking(values)[..., :count], axis=-1)
    chance = rank_weights(values.shape[-2] * values.shape[-1], values.shape[-1])[:count]
    return weighted_mean(top, np.broadcast_to(chance, top.shape)), _share(top, chance)


def checked(values: ArrayLike, logs: ArrayLike, confirmed: int | None) -> tuple[Array, Array, int]:
    """Arrays of the same shape ``[..., R, T]``, and K."""
    losses, results = np.asarray(values, dtype=float), np.asarray(logs, dtype=float)
    if losses.shape != results.shape or losses.ndim < 2 or not losses.size:
        raise ValueError(f"expected blocks of trials [..., R, T] twice, got {losses.shape} and {results.shape}")
    trials, size = losses.shape[-2] * losses.shape[-1], losses.shape[-1]
    count = confirmed_ranks(trials, size) if confirmed is None else confirmed
    if not 1 <= count <= trials:
        raise ValueError(f"{count} of {trials} trials cannot be confirmed")
    return losses, results, count


def weighted_mean(values: Array, weights: Array) -> Array:
    """Mean over the last axis of the values that are not NaN, exact where they are equal; NaN without any weight."""
    known = ~np.isnan(values)
    base = np.min(np.where(known, values, np.inf), axis=-1, keepdims=True)
    used = np.where(known, weights, 0.0)
    total = used.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        above = np.where(known, values - base, 0.0)
        return np.asarray(np.where(total > 0, base[..., 0] + (used * above).sum(axis=-1) / total, np.nan))


def _share(top: Array, chance: Array) -> Array:
    return np.asarray((~np.isnan(top) * chance).sum(axis=-1) / chance.sum())


def _flat(blocks: Array) -> Array:
    return blocks.reshape(*blocks.shape[:-2], -1)
