"""Pair two methods' results over the blocks that both have, at equal gradients and at equal seconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from relaxbench.analysis.frames import StudyFrames
from relaxbench.util.text import counted

COST_TOLERANCE = 0.1
"""Costs per gradient that differ by less than this share count as equal: a calibration does not repeat more closely."""


@dataclass(frozen=True)
class Pairs:
    """Results of two methods, block by block.

    Attributes:
        table: block, ours, theirs; in display units, lower is better.
        seconds: time of a run at which the results are read; NaN at equal gradients.
        obstacle: why the pairs allow no claim, in a few words; empty where they do.
    """

    table: pd.DataFrame
    seconds: float = float("nan")
    obstacle: str = ""


def at_gradients(ours: pd.DataFrame, theirs: pd.DataFrame) -> Pairs:
    """Pair the test metrics at the end of the same budget of gradients.

    Args:
        ours, theirs: rows of `StudyFrames.blocks` of the two methods on one problem.
    """
    both = ours[["block", "test_metric"]].merge(theirs[["block", "test_metric"]], on="block").dropna()
    return Pairs(both.set_axis(["block", "ours", "theirs"], axis=1))


def at_seconds(frames: StudyFrames, problem: str, ours: pd.DataFrame, theirs: pd.DataFrame) -> Pairs:
    """Pair the validation metrics at the time when the cheaper method has used up its budget.

    The more expensive method is read in the middle of its run, between the two measurements around that time. Its
    schedules were tuned for the whole run, so the comparison favours the cheaper method. A censored metric (gradients
    to a tolerance) becomes seconds to the tolerance. Test data are read once, at the end of a run, and are therefore
    not available here.

    Args:
        frames: the study.
        problem: one of its problems.
        ours, theirs: rows of `StudyFrames.blocks` of the two methods on it.
    """
    empty = pd.DataFrame({"block": [], "ours": [], "theirs": []})
    both = ours.merge(theirs, on="block", suffixes=("_x", "_y"))
    if both.empty:
        return Pairs(empty, obstacle="no complete block of both yet")
    x, y = (frames.cost(arm["method"].iloc[0], problem, "seconds_per_gradient") for arm in (ours, theirs))
    if not (np.isfinite(x) and np.isfinite(y)):
        return Pairs(empty, obstacle="the cost of a gradient was not measured")
    if abs(x - y) <= COST_TOLERANCE * max(x, y):
        x = y = (x + y) / 2
    if frames.problem(problem)["censored"]:
        table = both[["block"]].assign(ours=both["test_metric_x"] * x, theirs=both["test_metric_y"] * y)
        return Pairs(table.dropna())
    seconds = np.minimum(both["gradients_x"] * x, both["gradients_y"] * y).to_numpy()
    table = both[["block"]].assign(
        ours=_read(frames, problem, both["confirm_x"], seconds / x),
        theirs=_read(frames, problem, both["confirm_y"], seconds / y),
    )
    table = table.dropna()
    lost = len(both) - len(table)
    obstacle = f"{counted(lost, 'run')} had not been measured when the cheaper method ended" if lost else ""
    return Pairs(table, float(np.mean(seconds)), obstacle)


def worst_metric(frames: StudyFrames, problem: str) -> float:
    """Return the metric that a diverged run counts as, in display units; infinite where it is not known."""
    about = frames.problem(problem)
    worst = about["worst_metric"]
    return float("inf") if worst is None else float(worst) * float(about["metric_scale"] or 1)


def _read(frames: StudyFrames, problem: str, runs: pd.Series, gradients: np.ndarray) -> np.ndarray:
    """The validation metric of each run after its number of gradients, ``[runs]``; NaN before the first measurement."""
    curves, worst = frames.curves, worst_metric(frames, problem)
    trial = curves["trial_id"].to_numpy()
    at, metric = curves["gradients"].to_numpy(dtype=float), curves["validation_metric"].to_numpy(dtype=float)
    metric = np.minimum(np.where(np.isfinite(metric), metric, np.inf), worst)
    read = []
    for run, budget in zip(runs, gradients, strict=True):
        first, last = np.searchsorted(trial, run, "left"), np.searchsorted(trial, run, "right")
        # A run may end a little before its budget, on its last complete outer step; then its last value counts.
        value = np.interp(budget, at[first:last], metric[first:last], left=np.nan) if last > first else np.nan
        read.append(value if np.isfinite(value) else np.nan)
    return np.array(read)
