"""The arithmetic of a comparison: paired differences over blocks, their tests, and the verdict.

Pure functions on arrays. Lower metrics are better, and the unit of replication is the block (docs/statistics.md says
why). tests/analysis/test_paired.py checks them against scipy and by simulation.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, stats

from relaxbench.analysis.comparison import Verdict

LEVEL = 0.05
"""Significance level of every test; the confidence of intervals is 1 − LEVEL."""

POWER = 0.8
"""Power of the minimum detectable difference."""

MIN_BLOCKS = 6
"""Fewest complete blocks for a claim: with 5, no permutation of the signs can reach p = 0.05."""

EXACT_BLOCKS = 15
"""Up to this many blocks all 2^n sign flips are counted; with more blocks they are sampled."""

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class PairedTest:
    """A candidate against a reference over n paired blocks. Differences are candidate − reference.

    Attributes:
        n: number of pairs.
        difference: mean difference.
        low, high: its 95 % paired t interval.
        p: of the paired t test; of the permutation test where every difference is the same.
        p_exact: of the sign-flip permutation test.
        p_equivalence: of two one-sided t tests against the margin, NaN without a margin.
        correlation: of the pairs, NaN where an arm does not vary.
        detectable: smallest true difference found with 80 % power at the level of the test; NaN without variance.
        better: P(candidate < reference) over all unpaired runs; ties count ½.
    """

    n: int
    difference: float
    low: float
    high: float
    p: float
    p_exact: float
    p_equivalence: float
    correlation: float
    detectable: float
    better: float


def compare(candidate: Vector, reference: Vector, margin: float | None = None, level: float = LEVEL) -> PairedTest:
    """Compare paired results, each ``[n]`` with n ≥ 2, in display units.

    Args:
        candidate: one result per block.
        reference: the reference's results on the same blocks.
        margin: differences within ± margin count as equivalent; None skips the equivalence test.
        level: the level at which ``detectable`` is stated (LEVEL / family size under Holm's correction).

    Raises:
        ValueError: different lengths, fewer than two pairs, or a value that is not finite.
    """
    candidate, reference = np.asarray(candidate, dtype=float), np.asarray(reference, dtype=float)
    if candidate.shape != reference.shape or candidate.ndim != 1 or len(candidate) < 2:
        raise ValueError(f"expected two equally long vectors of at least 2, got {candidate.shape}, {reference.shape}")
    if not (np.isfinite(candidate).all() and np.isfinite(reference).all()):
        raise ValueError("results must be finite: a diverged run counts as the problem's worst metric")
    differences = candidate - reference
    n, mean = len(differences), float(differences.mean())
    scale = max(float(np.abs(candidate).max()), float(np.abs(reference).max()), 1e-300)
    p_exact = sign_flip(differences)
    if np.ptp(differences) <= 1e-12 * scale:  # the same in every block: no variance to build a t on
        mean = 0.0 if abs(mean) <= 1e-12 * scale else mean
        # One of the 2^n sign patterns lies as far on one side: the smallest p that n blocks can give.
        p_equivalence = np.nan if margin is None else (0.5**n if abs(mean) < margin else 1.0)
        low = high = mean
        p, detectable = p_exact, np.nan
    else:
        error = float(differences.std(ddof=1)) / np.sqrt(n)
        half = float(stats.t.ppf(1 - LEVEL / 2, n - 1)) * error
        low, high = mean - half, mean + half
        p = 2 * float(stats.t.sf(abs(mean) / error, n - 1))
        p_equivalence = np.nan if margin is None else float(stats.t.sf((margin - abs(mean)) / error, n - 1))
        detectable = detectable_effect(n, level) * error * np.sqrt(n)
    return PairedTest(
        n,
        mean,
        low,
        high,
        p,
        p_exact,
        float(p_equivalence),
        correlation(candidate, reference),
        float(detectable),
        probability_lower(candidate, reference),
    )


def sign_flip(differences: Vector, samples: int = 2**15) -> float:
    """Return the two-sided p-value of the mean under random signs.

    It is exact up to `EXACT_BLOCKS` differences, else by Monte Carlo with a fixed seed.
    """
    n = len(differences)
    observed = abs(float(differences.sum())) * (1 - 1e-12) - 1e-300  # ties count, whatever the order of summation
    if n <= EXACT_BLOCKS:
        return float(np.mean(np.abs(_patterns(n) @ differences) >= observed))
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(samples, n))
    return float((1 + np.sum(np.abs(signs @ differences) >= observed)) / (1 + samples))


@functools.lru_cache(maxsize=2)
def _patterns(n: int) -> Vector:
    """Sign patterns of n differences, ``[2^(n-1), n]``; the mirror images, which have the same |sum|, are left out."""
    bits = (np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1
    return (1 - 2 * bits).astype(np.float64)


@functools.lru_cache(maxsize=256)
def detectable_effect(n: int, level: float = LEVEL, power: float = POWER) -> float:
    """Return the smallest mean, in standard deviations of the differences, that a two-sided paired t test detects.

    It is detected with probability ``power`` (noncentral t). Infinite for a single difference, which has no spread.
    """
    if n < 2:
        return float("inf")
    critical = stats.t.ppf(1 - level / 2, n - 1)

    def miss(effect: float) -> float:
        # The probability of the opposite tail is left out: it is below 1e-4 at this power.
        return float(stats.nct.sf(critical, n - 1, effect * np.sqrt(n))) - power

    with warnings.catch_warnings():  # scipy's noncentral t overflows far from the root
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(optimize.brentq(miss, 0.0, 10 * (critical + 2) / np.sqrt(n)))


def correlation(x: Vector, y: Vector) -> float:
    """Return Pearson's correlation of two vectors; NaN where one does not vary."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def probability_lower(candidate: Vector, reference: Vector) -> float:
    """Return P(a run of the candidate is lower than a run of the reference) = U / (n m), unpaired, ties ½."""
    apart = reference[None, :] - candidate[:, None]
    return float(np.mean((np.sign(apart) + 1) / 2))


def holm(p_values: Sequence[float]) -> Vector:
    """Return Holm's adjusted p-values, ``[m]``. A NaN stands for no test: it stays NaN and is not counted."""
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(len(p), np.nan)
    order = [index for index in np.argsort(p) if np.isfinite(p[index])]
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, p[index] * (len(order) - rank)))
        adjusted[index] = running
    return adjusted


def means(values: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of ``value`` per method and the half width of its 95 % t interval: method, mean, half.

    The half width is NaN for a single block.
    """
    rows = []
    for method, part in values.groupby("method", sort=False)["value"]:
        n = len(part)
        half = float(stats.t.ppf(1 - LEVEL / 2, n - 1)) * float(part.std(ddof=1)) / n**0.5 if n > 1 else np.nan
        rows.append((method, float(part.mean()), half))
    return pd.DataFrame(rows, columns=["method", "mean", "half"])


def wilson(count: int, total: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a rate; (0, 1) without trials."""
    if total == 0:
        return 0.0, 1.0
    z = float(stats.norm.ppf(1 - LEVEL / 2))
    rate, weight = count / total, z * z / total
    centre = (rate + weight / 2) / (1 + weight)
    half = z * np.sqrt(rate * (1 - rate) / total + weight / (4 * total)) / (1 + weight)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def verdict(test: PairedTest, p_adjusted: float) -> Verdict:
    """Return the verdict: better, worse, equivalent, undecided, or "no claim" for too few blocks.

    Args:
        test: the paired test; lower is better.
        p_adjusted: its p-value after Holm's correction over the family.
    """
    if test.n < MIN_BLOCKS:
        return "no claim"
    if p_adjusted <= LEVEL and test.difference != 0:
        return "better" if test.difference < 0 else "worse"
    if test.p_equivalence <= LEVEL:  # False for NaN
        return "equivalent"
    return "undecided"
