"""How soon a method arrives: gradients to a target, and performance profiles over problems.

Pure functions. A run that never arrives takes infinitely long. Checked in tests/analysis/test_targets.py.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.paired import Vector
from relaxbench.analysis.quantiles import quantile_interval

Matrix = NDArray[np.float64]

REACH = 4.0
"""Profiles go from the fastest method's gradients to this many times as many."""

MIN_PROBLEMS = 5
"""A profile over fewer problems is a staircase of single results."""

TRIMMED = 0.25
"""The interquartile mean leaves out this share on either side."""


def budget(frames: StudyFrames, problem: str) -> float:
    """Gradients of a run on a problem; NaN where the study states none."""
    stated = frames.problem(problem)["budget"]
    return float("nan") if stated is None else float(stated)


def last_value(gradients: Vector, values: Vector, until: float) -> float:
    """The last measured value at or before ``until`` gradients, infinite where it is not finite, NaN without one."""
    before = np.flatnonzero(gradients <= until)
    if not len(before):
        return float("nan")
    value = float(values[before[-1]])
    return value if np.isfinite(value) else float("inf")


def first_arrival(gradients: Vector, values: Vector, target: float) -> float:
    """Gradients of the first measured point at or below the target; infinite without one. NaN is above any target."""
    below = np.flatnonzero(values <= target)
    return float(gradients[below[0]]) if len(below) else float("inf")


def median_interval(values: Vector) -> tuple[float, float, float]:
    """Median and its exact 95 % order-statistic interval, which is NaN from fewer than 6 values; [n], may be inf."""
    low, high = quantile_interval(values, 0.5)
    return float(np.median(values)), float(low[0]), float(high[0])


def summary(times: pd.DataFrame, baseline: str | None) -> pd.DataFrame:
    """Gradients to the target by method: method, median, low, high, runs, misses, ratio.

    Args:
        times: method, gradients: one row a confirm run, inf for a miss.
        baseline: whose median is the denominator of ``ratio``; NaN without it or where half of its runs miss.
    """
    rows = []
    for method, part in times.groupby("method", sort=False)["gradients"]:
        values = part.to_numpy(dtype=float)
        rows.append((method, *median_interval(values), len(values), int(np.isinf(values).sum())))
    table = pd.DataFrame(rows, columns=["method", "median", "low", "high", "runs", "misses"])
    theirs = table.loc[(table["method"] == baseline) & np.isfinite(table["median"].astype(float)), "median"]
    return table.assign(ratio=table["median"] / (theirs.iloc[0] if len(theirs) else np.nan))


def ratios(times: Matrix) -> Matrix:
    """Each time over the fastest method's of the same problem: ``[problems, methods]``, inf where it never arrives."""
    fastest = times.min(axis=1, keepdims=True)
    return times / np.where(np.isfinite(fastest), fastest, 1.0)


def profile(ratios: Vector) -> tuple[Vector, Vector]:
    """The steps of ρ(τ) = share of problems with ratio ≤ τ for one method: τ from 1 to `REACH`, and ρ from there on."""
    steps = np.unique(np.concatenate([[1.0, REACH], ratios[ratios <= REACH]]))
    return steps, np.searchsorted(np.sort(ratios), steps, side="right") / len(ratios)


def score(ratios: Vector) -> float:
    """Mean height of the profile: ∫ ρ dτ / (REACH − 1) over 1 … REACH, exactly; 1 is the fastest everywhere."""
    return float(np.mean(np.maximum(REACH - ratios, 0.0)) / (REACH - 1))


def interquartile_mean(ratios: Vector) -> float:
    """Mean of the middle half of the problems; infinite where one of those was missed."""
    return float(stats.trim_mean(ratios, TRIMMED))
