"""The speed of methods: gradients to a target, and performance profiles over problems.

Pure functions, checked in tests/analysis/test_targets.py. A run that never reaches its target takes infinitely many
gradients. Performance profiles are those of Dolan and Moré (Mathematical Programming 91, 2002).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.log_scale import Array as Vector
from relaxbench.analysis.quantiles import quantile_interval

Matrix = NDArray[np.float64]

REACH = 4.0
"""Profiles extend from the fastest method's gradients to this multiple of them."""

MIN_PROBLEMS = 5
"""Fewest problems for a profile: with fewer, every step is a single result."""

TRIMMED = 0.25
"""The interquartile mean leaves out this share at both ends."""


def budget(frames: StudyFrames, problem: str) -> float:
    """Return the budget of a run on a problem, in gradients; NaN where the study states none."""
    stated = frames.problem(problem)["budget"]
    return float("nan") if stated is None else float(stated)


def last_value(gradients: Vector, values: Vector, until: float) -> float:
    """Return the last value measured at or before ``until`` gradients; infinite if not finite, NaN without one."""
    before = np.flatnonzero(gradients <= until)
    if not len(before):
        return float("nan")
    value = float(values[before[-1]])
    return value if np.isfinite(value) else float("inf")


def first_arrival(gradients: Vector, values: Vector, target: float) -> float:
    """Return the gradients of the first measured point at or below the target; infinite without one.

    A NaN counts as above any target.
    """
    below = np.flatnonzero(values <= target)
    return float(gradients[below[0]]) if len(below) else float("inf")


def median_interval(values: Vector) -> tuple[float, float, float]:
    """Return the median of ``values`` [n] and its exact 95 % order-statistic interval.

    Values may be infinite. The interval is NaN for fewer than 6 values.
    """
    low, high = quantile_interval(values, 0.5)
    return float(np.median(values)), float(low[0]), float(high[0])


def summary(times: pd.DataFrame, baseline: str | None) -> pd.DataFrame:
    """Return gradients to the target per method: method, median, low, high, runs, misses, ratio.

    Args:
        times: columns method and gradients, one row per confirm run; inf for a miss.
        baseline: the method whose median is the denominator of ``ratio``. The ratio is NaN without a baseline, and
            where half of the baseline's runs miss the target.
    """
    rows = []
    for method, part in times.groupby("method", sort=False)["gradients"]:
        values = part.to_numpy(dtype=float)
        rows.append((method, *median_interval(values), len(values), int(np.isinf(values).sum())))
    table = pd.DataFrame(rows, columns=["method", "median", "low", "high", "runs", "misses"])
    theirs = table.loc[(table["method"] == baseline) & np.isfinite(table["median"].astype(float)), "median"]
    return table.assign(ratio=table["median"] / (theirs.iloc[0] if len(theirs) else np.nan))


def ratios(times: Matrix) -> Matrix:
    """Return times divided by the fastest method's on the same problem, ``[problems, methods]``; inf for a miss."""
    fastest = times.min(axis=1, keepdims=True)
    return times / np.where(np.isfinite(fastest), fastest, 1.0)


def profile(ratios: Vector) -> tuple[Vector, Vector]:
    """Return the steps of one method's profile ρ(τ), the share of problems with ratio ≤ τ.

    Returns:
        τ at which a step begins, from 1 to `REACH`, and ρ from there to the next step.
    """
    steps = np.unique(np.concatenate([[1.0, REACH], ratios[ratios <= REACH]]))
    return steps, np.searchsorted(np.sort(ratios), steps, side="right") / len(ratios)


def score(ratios: Vector) -> float:
    """Return the exact mean height of the profile, ∫ ρ dτ / (REACH − 1) over 1 … REACH; 1: fastest on every problem."""
    return float(np.mean(np.maximum(REACH - ratios, 0.0)) / (REACH - 1))


def interquartile_mean(ratios: Vector) -> float:
    """Return the mean ratio over the middle half of the problems; infinite if one of those was missed."""
    from scipy import stats  # slow to import, and only a study of five problems asks

    return float(stats.trim_mean(ratios, TRIMMED))
