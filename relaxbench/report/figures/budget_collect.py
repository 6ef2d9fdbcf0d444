"""What the figures of tuning budgets and targets show, as plain frames: budget_figures.py draws them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from relaxbench.analysis.best_of_n import Matrix, medians_by_budget, verdict_by_budget
from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.targets import (
    MIN_PROBLEMS,
    first_arrival,
    interquartile_mean,
    last_value,
    profile,
    ratios,
    score,
    summary,
)

TARGET = 0.75
"""Share of the budget at which the baseline sets the target."""


def explored(frames: StudyFrames, problem: str) -> dict[str, Matrix]:
    """Values of the explore trials by method: ``[blocks, trials]``, row r is block r, NaN where one is not done."""
    asked, planned = int(frames.spec.get("trials") or 1), int(frames.spec.get("blocks") or 0)
    trials = frames.trials
    done = trials[(trials["problem"] == problem) & (trials["phase"] == "explore") & (trials["status"] == "done")]
    done = done[done["number"] < asked]
    found = {}
    for method in frames.methods:
        part = done[done["method"] == method]
        table = np.full((max(planned, int(part["block"].max()) + 1 if len(part) else 0), asked), np.nan)
        table[part["block"].to_numpy(dtype=int), part["number"].to_numpy(dtype=int)] = part["value"].to_numpy()
        found[method] = table
    return found


def by_budget(frames: StudyFrames, problem: str) -> pd.DataFrame:
    """Expected best of n and the verdict as a function of n (`bestof.verdict_by_budget`); empty for repeated studies.

    In these the answer is how often each verdict came up, and no single one of them.
    """
    values = explored(frames, problem) if frames.repetitions == 1 else {}
    return verdict_by_budget(values, frames.baseline, _budget(frames, problem))


def medians(frames: StudyFrames, problem: str) -> pd.DataFrame:
    """The median best of n (`bestof.medians_by_budget`); empty for repeated studies."""
    values = explored(frames, problem) if frames.repetitions == 1 else {}
    return medians_by_budget(values, _budget(frames, problem))


def arrivals(frames: StudyFrames, problem: str) -> tuple[pd.DataFrame, float]:
    """Gradients to target of every confirm run (method, block, gradients; a miss is inf), and the target.

    The target is the baseline's median validation loss over its confirm runs at `TARGET` of the budget. Where the
    metric is itself gradients to a tolerance, it is taken as it is and the target is NaN. Empty without a target.
    """
    about = frames.problem(problem)
    runs = frames.blocks[frames.blocks["problem"] == problem]
    rows = runs[["method", "block"]].reset_index(drop=True)
    budget = _budget(frames, problem)
    if about["censored"]:
        metric = runs["test_metric"].to_numpy(dtype=float)
        missed = np.isnan(metric) | (metric >= budget * float(about["metric_scale"] or 1))
        return rows.assign(gradients=np.where(missed, np.inf, metric)), float("nan")
    points = frames.curves[frames.curves["trial_id"].isin(runs["confirm"])]
    curves = {
        trial: (part["gradients"].to_numpy(dtype=float), part["validation_loss"].to_numpy(dtype=float))
        for trial, part in points.groupby("trial_id", sort=False)
    }
    theirs = runs.loc[(runs["method"] == frames.baseline) & runs["confirm"].isin(list(curves)), "confirm"]
    reached = [last_value(*curves[trial], until=TARGET * budget) for trial in theirs]
    target = float(np.median(reached)) if reached else float("nan")
    if not np.isfinite(target):
        return rows.assign(gradients=np.nan)[:0], float("nan")
    known = runs["confirm"].isin(list(curves)).to_numpy()
    gradients = [first_arrival(*curves[trial], target) for trial in runs.loc[known, "confirm"]]
    return rows[known].assign(gradients=gradients).reset_index(drop=True), target


def to_target(frames: StudyFrames, problem: str) -> pd.DataFrame:
    """Gradients to target by method: the columns of `targets.summary`, and the target."""
    times, target = arrivals(frames, problem)
    table = summary(times, frames.baseline)
    order = table["method"].map({method: rank for rank, method in enumerate(frames.methods)})
    return table.assign(target=target).loc[order.sort_values().index].reset_index(drop=True)


def profiles(frames: StudyFrames) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Performance profiles over the problems of which every method has a median number of gradients to target.

    Returns:
        Steps: method, tau, share. Scores: method, problems, score, interquartile_ratio. Both empty for fewer than
        `MIN_PROBLEMS` problems.
    """
    medians = {name: to_target(frames, name).set_index("method")["median"] for name in frames.problems}
    times = pd.DataFrame(medians, index=frames.methods).T.dropna()  # a method that is not done yet is no miss
    steps, scores = [pd.DataFrame(columns=["method", "tau", "share"])], []
    if len(times) >= MIN_PROBLEMS:
        for method, relative in zip(times.columns, ratios(times.to_numpy(dtype=float)).T, strict=True):
            tau, share = profile(relative)
            steps.append(pd.DataFrame({"method": method, "tau": tau, "share": share}))
            scores.append((method, len(times), score(relative), interquartile_mean(relative)))
    scored = pd.DataFrame(scores, columns=["method", "problems", "score", "interquartile_ratio"])
    return pd.concat(steps[1:] or steps, ignore_index=True), scored


def _budget(frames: StudyFrames, problem: str) -> float:
    budget = frames.problem(problem)["budget"]
    return float("nan") if budget is None else float(budget)
