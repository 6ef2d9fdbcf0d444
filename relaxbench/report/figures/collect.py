"""What the figures show, as plain frames: this is the first of the two layers, figures.py draws."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.paired import LEVEL

GRID = 80
"""Points of a band along the budget."""

MAX_SCHEDULES = 120
"""Explore trials drawn in a figure of schedules; the subsample is by value, so that its spread is kept."""

MAX_POINTS = 16
"""Points of a drawn schedule, evenly along the run: schedules are smooth."""


def bands(frames: StudyFrames, problem: str, measure: str) -> pd.DataFrame:
    """Learning curves of the confirm runs: method, gradients, mean, median, low, high (the quartiles), runs.

    Runs measure at different points (after complete outer steps), so each is interpolated to one grid, from where all
    have begun. A run that has used up what fits into its budget stays where it is; one that diverged stays at the
    problem's worst value, which is what the study counts for it.

    Args:
        frames: the study.
        problem: one of its problems.
        measure: ``"validation_loss"`` or ``"validation_metric"``.
    """
    about = frames.problem(problem)
    worst = about["worst"]
    if measure == "validation_metric":
        worst = None if about["worst_metric"] is None else about["worst_metric"] * float(about["metric_scale"] or 1)
    ids = frames.blocks.loc[frames.blocks["problem"] == problem, "confirm"]
    runs = frames.curves[frames.curves["trial_id"].isin(ids)]
    columns = ["method", "gradients", "mean", "median", "low", "high", "runs"]
    if runs.empty:
        return pd.DataFrame(columns=columns)
    grid = np.linspace(float(runs["gradients"].min()), float(runs["gradients"].max()), GRID)
    parts = []
    for method in frames.methods:
        values = []
        for _, run in runs[runs["method"] == method].groupby("trial_id", sort=False):
            y = run[measure].to_numpy(dtype=float)
            y = np.where(np.isfinite(y), y, np.inf)
            y = np.minimum(y, np.inf if worst is None else worst)
            x = run["gradients"].to_numpy(dtype=float)
            values.append(np.interp(grid, x, y, left=np.nan))
        if not values:
            continue
        table = np.stack(values)
        begun = np.isfinite(table).all(axis=0)  # a median over a part of the runs would mislead
        if not begun.any():
            continue
        shown = table[:, begun]
        low, median, high = np.quantile(shown, [0.25, 0.5, 0.75], axis=0)
        mean = np.mean(shown, axis=0)
        part = {"gradients": grid[begun], "mean": mean, "median": median, "low": low, "high": high}
        parts.append(pd.DataFrame(part).assign(method=method, runs=len(table)))
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def scales(frames: StudyFrames, problem: str) -> pd.DataFrame:
    """What a gradient is in other units, by method: seconds (calibrated alone) and epochs; NaN where it is not known.

    Epochs are counted in training examples, so that two gradients of one mini-batch (SAM's) are not two batches.
    """
    examples = frames.problem(problem)["train_examples"]
    rows = frames.blocks[frames.blocks["problem"] == problem]
    seen = rows.groupby("method")[["examples", "gradients"]].sum().reindex(frames.methods)
    return pd.DataFrame({
        "seconds": [frames.cost(method, problem, "seconds_per_gradient") for method in frames.methods],
        "epochs": (seen["examples"] / seen["gradients"] / (examples or np.nan)).to_numpy(dtype=float),
    }, index=frames.methods)  # fmt: skip


def schedules(frames: StudyFrames, problem: str, method: str) -> pd.DataFrame:
    """γ schedules of explore trials: trial_id, gradients, gamma, fifth (0 best … 4 worst by value), winner, total.

    At most MAX_SCHEDULES trials, evenly by rank of value, and every block's winner. Empty where a method has no γ.
    """
    trials = frames.trials
    chosen = (trials["problem"] == problem) & (trials["method"] == method) & (trials["status"] == "done")
    ranked = trials[chosen & (trials["phase"] == "explore")].sort_values("value", kind="stable")
    curves = frames.curves[frames.curves["trial_id"].isin(ranked["id"])]
    curves = curves[np.isfinite(curves["gamma"])][["trial_id", "gradients", "gamma"]]
    ranked = ranked[ranked["id"].isin(curves["trial_id"].unique())]
    total = len(ranked)
    fifth = pd.Series(np.arange(total) * 5 // max(total, 1), index=ranked["id"])
    kept = ranked["id"].iloc[np.unique(np.linspace(0, total - 1, min(total, MAX_SCHEDULES)).astype(int))]
    of = (frames.blocks["problem"] == problem) & (frames.blocks["method"] == method)
    winners = frames.blocks.loc[of, "winner"]
    drawn = curves[curves["trial_id"].isin(kept) | curves["trial_id"].isin(winners)]
    place, size = drawn.groupby("trial_id").cumcount(), drawn["trial_id"].map(drawn["trial_id"].value_counts())
    # Every k-th point, counted from the last one, which is where a schedule ends.
    drawn = drawn[(size - 1 - place) % np.ceil(size / MAX_POINTS).astype(int) == 0]
    return drawn.assign(
        fifth=drawn["trial_id"].map(fifth).astype(int), winner=drawn["trial_id"].isin(winners), total=total
    )


def results(frames: StudyFrames, problem: str) -> pd.DataFrame:
    """Test metric of every block: method, block, value."""
    rows = frames.blocks[frames.blocks["problem"] == problem]
    return rows[["method", "block", "test_metric"]].rename(columns={"test_metric": "value"}).reset_index(drop=True)


def means(values: pd.DataFrame) -> pd.DataFrame:
    """Mean and half width of its 95 % t interval by method (NaN for a single block): method, mean, half."""
    rows = []
    for method, part in values.groupby("method", sort=False)["value"]:
        n = len(part)
        half = float(stats.t.ppf(1 - LEVEL / 2, n - 1)) * float(part.std(ddof=1)) / n**0.5 if n > 1 else np.nan
        rows.append((method, float(part.mean()), half))
    return pd.DataFrame(rows, columns=["method", "mean", "half"])


def searched(frames: StudyFrames, problem: str) -> pd.DataFrame:
    """How explore values are spread: method, five quantiles (p5, p25, p50, p75, p95), best, trials."""
    trials = frames.trials
    explore = trials[(trials["problem"] == problem) & (trials["phase"] == "explore") & (trials["status"] == "done")]
    rows = []
    for method in frames.methods:
        values = explore.loc[explore["method"] == method, "value"].dropna()
        if len(values):
            quantiles = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
            rows.append((method, *quantiles, float(values.min()), len(values)))
    return pd.DataFrame(rows, columns=["method", "p5", "p25", "p50", "p75", "p95", "best", "trials"])


def confirmed_flatness(frames: StudyFrames, problem: str) -> pd.DataFrame:
    """Flatness of every block's confirm run: method, block, value (the test metric), top (the largest eigenvalue)."""
    flat = frames.flatness
    rows = flat[(flat["problem"] == problem) & (flat["phase"] == "confirm")]
    return rows[["method", "block", "test_metric", "hessian_top_1"]].rename(
        columns={"test_metric": "value", "hessian_top_1": "top"}
    )
