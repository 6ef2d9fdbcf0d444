"""The results of two methods at equal seconds, read from the learning curves of their confirm runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from relaxbench.analysis import counted_curves
from relaxbench.analysis.arms import Limits
from relaxbench.analysis.frames import StudyFrames
from relaxbench.util.text import counted

COST_TOLERANCE = 0.1
"""Costs per gradient that differ by less than this share count as equal, or by less than what a calibration told of
its own spread, where that is more."""


@dataclass(frozen=True)
class Reading:
    """Results of two methods at the same time of a run.

    Attributes:
        ours, theirs: id of a confirm run → its result, in display units; lower is better.
        seconds: time of a run at which the results are read; of seconds to a tolerance the longest that count: a run
            that takes longer has missed it.
        obstacle: why the results allow no claim, in a few words; empty where they do.
    """

    ours: pd.Series
    theirs: pd.Series
    seconds: float = float("nan")
    obstacle: str = ""


def at_seconds(frames: StudyFrames, problem: str, ours: pd.DataFrame, theirs: pd.DataFrame) -> Reading:
    """Read the validation metrics at the time when the cheaper method has used up its budget.

    The more expensive method is read in the middle of its runs, between the two measurements around that time. Its
    schedules were tuned for the whole run, so the comparison favours the cheaper method. A censored metric (gradients
    to a tolerance) becomes seconds to the tolerance, at most those of the cheaper method's budget. Test data are read
    once, at the end of a run, and are therefore not available here.

    Args:
        frames: the study.
        problem: one of its problems.
        ours, theirs: rows of `StudyFrames.confirmations` of the two methods on it, indexed by id.
    """
    nothing = pd.Series(dtype=float)
    if ours.empty or theirs.empty:
        return Reading(nothing, nothing, obstacle="no confirming run of both yet")
    x, y = (frames.cost(arm["method"].iloc[0], problem, "seconds_per_gradient") for arm in (ours, theirs))
    if not (np.isfinite(x) and np.isfinite(y)):
        return Reading(nothing, nothing, obstacle="the cost of a gradient was not measured")
    if abs(x - y) <= tolerance(frames, problem, [arm["method"].iloc[0] for arm in (ours, theirs)]) * max(x, y):
        x = y = (x + y) / 2
    if frames.problem(problem)["censored"]:
        seconds = Limits.of(frames.problem(problem)).largest * min(x, y)
        own, other = ((arm["test_metric"] * cost).clip(upper=seconds) for arm, cost in ((ours, x), (theirs, y)))
        return Reading(own, other, seconds)
    seconds = min(float(ours["gradients"].mean()) * x, float(theirs["gradients"].mean()) * y)
    read, other = (_read(frames, problem, arm["id"], seconds / cost) for arm, cost in ((ours, x), (theirs, y)))
    lost = int(read.isna().sum() + other.isna().sum())
    obstacle = f"{counted(lost, 'run')} had not been measured when the cheaper method ended" if lost else ""
    return Reading(read, other, seconds, obstacle)


def tolerance(frames: StudyFrames, problem: str, methods: Sequence[str]) -> float:
    """Return the share by which the costs of two methods may differ and count as equal."""
    spreads = np.nan_to_num([frames.cost(method, problem, "seconds_spread") for method in methods])
    return max(COST_TOLERANCE, float(np.linalg.norm(spreads)))


def worst_metric(frames: StudyFrames, problem: str) -> float:
    """Return the metric that a diverged run counts as, in display units; infinite where it is not known."""
    about = frames.problem(problem)
    worst = about["worst_metric"]
    return float("inf") if worst is None else float(worst) * float(about["metric_scale"] or 1)


def _read(frames: StudyFrames, problem: str, runs: pd.Series, gradients: float) -> pd.Series:
    """The validation metric of each run after so many gradients, by id; NaN before the first measurement."""
    curves, worst = frames.curves[frames.curves["trial_id"].isin(runs)], worst_metric(frames, problem)
    trial = curves["trial_id"].to_numpy()
    at = curves["gradients"].to_numpy(dtype=float)
    metric = counted_curves.counted(frames, curves, "validation_metric", worst)
    read = []
    for run in runs:
        first, last = np.searchsorted(trial, run, "left"), np.searchsorted(trial, run, "right")
        # A run may end a little before its budget, on its last complete outer step; then its last value counts.
        value = np.interp(gradients, at[first:last], metric[first:last], left=np.nan) if last > first else np.nan
        read.append(value if np.isfinite(value) else np.nan)
    return pd.Series(read, index=runs.to_numpy(), dtype=float)
