"""The best of n random trials, and the verdict as a function of the tuning budget n.

Pure functions on validation losses (lower is better). A method's explore trials are independent and identically
distributed: R complete blocks of T trials, ``[R, T]``, N = R T in total. tests/analysis/test_best_of_n.py checks them
by enumeration and by simulation; docs/statistics.md has the formulas.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from relaxbench.analysis.all_subsets import weights
from relaxbench.analysis.paired import LEVEL, MIN_BLOCKS, Vector, holm
from relaxbench.analysis.quantiles import quantile_interval

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
    "p",
    "p_holm",
    "compared",
    "verdict",
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


def paired(differences: Matrix) -> tuple[Vector, Vector, Vector]:
    """Return mean, half width of its 95 % interval and p-value of a paired t test per column of ``[R, sizes]``.

    The same as `paired.compare` for all n at once, without its sign-flip test. NaN from fewer than two blocks.
    """
    count, mean = len(differences), differences.mean(axis=0)
    if count < 2:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    error = differences.std(axis=0, ddof=1) / np.sqrt(count)
    constant = np.ptp(differences, axis=0) <= 1e-12 * np.abs(differences).max(axis=0)
    # Without variance there is no t: one sign pattern of 2^R lies as far out on either side.
    p = np.where(mean == 0, 1.0, 2.0 ** (1 - count))
    p[~constant] = 2 * stats.t.sf(np.abs(mean[~constant]) / error[~constant], count - 1)
    return mean, np.where(constant, 0.0, stats.t.ppf(1 - LEVEL / 2, count - 1) * error), p


def verdict_by_budget(blocks: Mapping[str, Matrix], baseline: str | None, budget: float) -> pd.DataFrame:
    """Return the verdict after tuning every method with n trials: one row per method and n.

    Columns: method, n, gradients (n × budget); expected best of n with its 95 % interval low, high over the method's
    complete blocks; difference from the baseline over the ``compared`` blocks that both have completed, with
    difference_low, difference_high, p and p_holm; verdict: better, worse, undecided, "no claim" (fewer than
    `MIN_BLOCKS` blocks to compare, or no baseline) or "baseline". Holm's correction is over the methods at each n
    separately; nothing corrects for the number of values of n.

    Args:
        blocks: method → validation losses ``[R, T]``, where row r is block r; a row with a NaN is incomplete.
        baseline: one of the methods, or None.
        budget: gradients of one trial.
    """
    complete = {method: np.isfinite(values).all(axis=1) for method, values in blocks.items()}
    grid = sizes(max((values.size for values in blocks.values()), default=1))
    parts = []
    for method, values in blocks.items():
        own = values[complete[method]]
        if not len(own):
            continue
        ns = _within(grid, own.size)
        part = pd.DataFrame({"method": method, "n": ns, "gradients": ns * budget})
        part["expected"] = expected_best(own.ravel(), ns)
        half = paired(pseudo_values(own, ns))[1] if len(own) > 1 else np.nan
        part["low"], part["high"] = part["expected"] - half, part["expected"] + half
        if baseline is not None and baseline in blocks and method != baseline:
            part = part.merge(_compared(values, blocks[baseline], grid), on="n", how="left")
        parts.append(part.assign(verdict="baseline" if method == baseline else "no claim"))
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    table = table.reindex(columns=list(COLUMNS))
    table["p_holm"] = table.groupby("n")["p"].transform(holm)
    known = (table["compared"] >= MIN_BLOCKS) & table["p_holm"].notna()
    decided = (table["p_holm"] <= LEVEL) & (table["difference"] != 0)
    table.loc[known, "verdict"] = "undecided"
    table.loc[known & decided, "verdict"] = np.where(table["difference"] < 0, "better", "worse")[known & decided]
    return table


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


def _compared(candidate: Matrix, reference: Matrix, grid: Sizes) -> pd.DataFrame:
    """Differences over the blocks that both have, for as many n as these allow; none from fewer than two blocks."""
    both = np.isfinite(candidate).all(axis=1) & np.isfinite(reference).all(axis=1)
    if both.sum() < 2:
        return pd.DataFrame({"n": grid[:0]})
    candidate, reference = candidate[both], reference[both]
    ns = _within(grid, min(candidate.size, reference.size))
    mean, half, p = paired(pseudo_values(candidate, ns) - pseudo_values(reference, ns))
    columns = {"n": ns, "difference": mean, "difference_low": mean - half, "difference_high": mean + half, "p": p}
    return pd.DataFrame(columns | {"compared": len(candidate)})


def _within(grid: Sizes, trials: int) -> Sizes:
    return grid[grid <= max(trials // FRACTION, 1)]
