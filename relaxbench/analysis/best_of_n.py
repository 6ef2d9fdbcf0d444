"""The best of n random trials, and the difference from the baseline as a function of the tuning budget n.

Pure functions on validation losses (lower is better). A method's explore trials are independent and identically
distributed: R complete blocks of T trials, ``[R, T]``, N = R T in total. tests/analysis/test_best_of_n.py checks them
by enumeration and by simulation; docs/statistics.md has the formulas.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from relaxbench.analysis.all_subsets import weights
from relaxbench.analysis.arm import Arm
from relaxbench.analysis.log_scale import Array as Vector
from relaxbench.analysis.quantiles import quantile_interval
from relaxbench.analysis.simultaneous import LEVEL
from relaxbench.analysis.welch import welch_difference

Matrix = NDArray[np.float64]
Sizes = NDArray[np.int64]

FRACTION = 5
"""n goes up to N / FRACTION. Beyond it the best of n and its interval depend on the few best trials alone."""

POINTS = 24
"""Largest number of values of n, evenly spaced on a logarithmic axis."""

COLUMNS = (
    "method",
    "n",
    "gradients",
    "expected",
    "low",
    "high",
    "difference",
    "difference_low",
    "difference_high",
)


def sizes(trials: int) -> Sizes:
    """Return the values of n: whole numbers from 1 to trials / FRACTION, at least [1]."""
    return np.unique(np.geomspace(1, max(trials // FRACTION, 1), POINTS).round().astype(np.int64))


def expected_best(values: Vector, sizes: Sizes) -> Vector:
    """Return the mean of the best of n over all n-subsets of ``values`` [N], for every n.

    It is unbiased for n independent trials.
    """
    ascending = np.sort(values)
    return _mean(ascending, weights(len(ascending), sizes))


def pseudo_values(blocks: Matrix, sizes: Sizes) -> Matrix:
    """Return one value per block, with the expected best of n as mean and its error as spread: ``[R, sizes]``.

    These are the pseudo-values of a jackknife that leaves out one block at a time. The estimate is unbiased, so they
    are centred on it.

    Args:
        blocks: ``[R, T]`` with R ≥ 2.
        sizes: values of n, at most (R − 1) T.
    """
    count = len(blocks)
    order = np.argsort(blocks, axis=None, kind="stable")
    ascending, owner = blocks.ravel()[order], order // blocks.shape[1]
    chances = weights(blocks.size - blocks.shape[1], sizes)
    without = np.empty((count, len(sizes)))
    for block in range(count):
        without[block] = _mean(ascending[owner != block], chances)
    return np.asarray(expected_best(ascending, sizes) + (count - 1) * (without.mean(axis=0) - without))


def median_best(values: Vector, sizes: Sizes) -> tuple[Vector, Vector, Vector]:
    """Return the median of the best of n and both ends of its exact 95 % interval; NaN where N is too small.

    The best of n lies above x with probability (1 − F(x))ⁿ, so its median is the quantile of F at 1 − 2^(−1/n).
    """
    share = -np.expm1(-np.log(2) / np.asarray(sizes))
    return np.quantile(values, share, method="averaged_inverted_cdf"), *quantile_interval(values, share)


def arm(blocks: Matrix, sizes: Sizes) -> Arm:
    """Return the expected best of n as an estimate with its jackknife variance over blocks, ``[sizes]`` each.

    Args:
        blocks: ``[R, T]``.
        sizes: values of n, at most (R − 1) T.
    """
    estimate = expected_best(blocks.ravel(), sizes)
    if len(blocks) < 2:
        return Arm(estimate, np.full_like(estimate, np.nan), len(blocks))
    pseudo = pseudo_values(blocks, sizes)
    return Arm(estimate, (pseudo - pseudo[:1]).var(axis=0, ddof=1) / len(blocks), len(blocks))


def differences_by_budget(blocks: Mapping[str, Matrix], baseline: str | None, budget: float) -> pd.DataFrame:
    """Return the result of tuning every method with n trials: one row per method and n.

    Columns: method, n, gradients (n × budget); expected best of n with its 95 % interval low, high over the method's
    complete blocks; difference from the baseline with difference_low, difference_high, Welch's interval at once for all
    methods at this n (Bonferroni). It describes: nothing corrects for the number of values of n, and no verdict rests
    on it.

    Args:
        blocks: method → validation losses ``[R, T]``, where row r is block r; a row with a NaN is incomplete.
        baseline: one of the methods, or None.
        budget: gradients of one trial.
    """
    complete = {method: values[np.isfinite(values).all(axis=1)] for method, values in blocks.items()}
    grid = sizes(max((values.size for values in blocks.values()), default=1))
    tail = LEVEL / 2 / max(len(blocks) - 1, 1)
    parts = []
    for method, own in complete.items():
        if not len(own):
            continue
        ns = _within(grid, own.size)
        part = pd.DataFrame({"method": method, "n": ns, "gradients": ns * budget})
        estimate = arm(own, ns)
        half = -special.stdtrit(max(estimate.blocks - 1, 1), LEVEL / 2) * np.sqrt(estimate.variance)
        part["expected"] = estimate.estimate
        part["low"], part["high"] = part["expected"] - half, part["expected"] + half
        if baseline is not None and method != baseline and len(complete.get(baseline, ())):
            part = part.merge(_compared(own, complete[baseline], grid, tail), on="n", how="left")
        parts.append(part)
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return table.reindex(columns=list(COLUMNS))


def medians_by_budget(blocks: Mapping[str, Matrix], budget: float) -> pd.DataFrame:
    """Return the median best of n: one row per method and n for which its interval has two ends.

    Columns: method, n, gradients, median, low, high.
    """
    parts = [pd.DataFrame(columns=["method", "n", "gradients", "median", "low", "high"])]
    grid = sizes(max((values.size for values in blocks.values()), default=1))
    for method, values in blocks.items():
        own = values[np.isfinite(values).all(axis=1)].ravel()
        if len(own):
            ns = _within(grid, len(own))
            median, low, high = median_best(own, ns)
            part = {"n": ns, "gradients": ns * budget, "median": median, "low": low, "high": high}
            parts.append(pd.DataFrame(part).assign(method=method).dropna(subset=["low", "high"]))
    return pd.concat(parts[1:] or parts, ignore_index=True)[list(parts[0])]


def _mean(ascending: Vector, weights: Matrix) -> Vector:
    """A weighted mean that is exact where all values are equal."""
    return np.asarray(ascending[0] + weights @ (ascending - ascending[0]))


def _compared(candidate: Matrix, reference: Matrix, grid: Sizes, tail: float) -> pd.DataFrame:
    """Differences for as many n as both allow; the interval leaves out `tail` on either side."""
    ns = _within(grid, min(candidate.size, reference.size))
    contrast = welch_difference(arm(candidate, ns), arm(reference, ns))
    half = -special.stdtrit(contrast.freedom, tail) * contrast.error
    ends = {"difference_low": contrast.difference - half, "difference_high": contrast.difference + half}
    return pd.DataFrame({"n": ns, "difference": contrast.difference} | ends)


def _within(grid: Sizes, trials: int) -> Sizes:
    return grid[grid <= max(trials // FRACTION, 1)]
