"""Studies drawn from a pool of trials with replacement, where the truth is known exactly: the estimand is the pool's.

The best of T trials drawn has rank j of M with probability ((M − j + 1)/M)^T − ((M − j)/M)^T.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from relaxbench.analysis.all_subsets import ranking
from relaxbench.analysis.arm import Arm
from relaxbench.analysis.jackknife import best_of_random
from relaxbench.analysis.simultaneous import Family, interval
from relaxbench.analysis.welch import welch_difference
from tests.analysis.simulated_arms import LOOKS, TRIALS, over_looks

Pool = tuple[np.ndarray, np.ndarray]
"""Validation losses and ℓ on fresh seeds of the trials of a pool, ``[M]`` each."""


def draw(pool: Pool, rng: np.random.Generator, studies: int, in_full: bool = False) -> list[Arm]:
    """A method in many studies, at every look; `in_full`: no disaster is limited."""
    values, results = pool
    drawn = rng.integers(len(values), size=(studies, max(LOOKS), TRIALS))
    return [best_of_random(values[drawn[:, :blocks]], results[drawn[:, :blocks]], in_full=in_full) for blocks in LOOKS]


def estimand(pool: Pool, in_full: bool = False) -> float:
    """Mean ℓ of the best of T trials drawn with replacement, with disasters limited as in a very large study."""
    values, results = pool
    size, ordered = len(values), results[ranking(values[None])]
    if not in_full:
        best = ordered[: -(-size // 3)]
        middle = np.median(best)
        ordered = np.minimum(ordered, middle + max(np.log(3), 4 * np.abs(best - middle).mean()))
    left = (np.arange(size, -1, -1) / size) ** TRIALS
    return float(ordered @ -np.diff(left))


def false_differences(
    candidates: Sequence[Sequence[Arm]], reference: Sequence[Arm], family: Family
) -> tuple[np.ndarray, np.ndarray]:
    """By study, where no difference is true: whether any is called, and whether all intervals at all looks hold 0."""
    studies = len(reference[0].estimate)
    different, covered = np.zeros(studies, bool), np.ones(studies, bool)
    for candidate in candidates:
        for one, other in zip(candidate, reference, strict=True):
            low, high = interval(welch_difference(one, other), family.share / 2)
            covered &= (low <= 0) & (high >= 0)
        different |= np.isin(over_looks(candidate, reference, family), ["better", "worse"])
    return different, covered
