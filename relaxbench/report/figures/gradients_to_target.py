"""Gradients to a target, and performance profiles over problems."""

from __future__ import annotations

import numpy as np
import pandas as pd

from relaxbench.analysis import targets
from relaxbench.analysis.counted_curves import counted
from relaxbench.analysis.frames import StudyFrames
from relaxbench.pages.figure import Drawing, Figure, single
from relaxbench.pages.theme import INK, SHARES, Look, axis, file_name, layout, row_axis, vertical
from relaxbench.util.text import percent

TARGET = 0.75
"""Share of the budget at which the baseline's loss is the target."""


def arrivals(frames: StudyFrames, problem: str) -> tuple[pd.DataFrame, float]:
    """Return gradients to target of every confirm run, and the target.

    The target is the baseline's median validation loss over its confirm runs at `TARGET` of the budget. A metric that
    counts gradients to a tolerance is used as it is, and the target is NaN.

    Returns:
        Runs: method, block, gradients (inf for a miss); empty without a target. The target.
    """
    about = frames.problem(problem)
    runs = frames.blocks[(frames.blocks["problem"] == problem) & frames.blocks["confirm"].notna()]
    rows = runs[["method", "block"]].reset_index(drop=True)
    budget = targets.budget(frames, problem)
    if about["censored"]:
        metric = runs["test_metric"].to_numpy(dtype=float)
        missed = np.isnan(metric) | (metric >= budget * float(about["metric_scale"] or 1))
        return rows.assign(gradients=np.where(missed, np.inf, metric)), float("nan")
    points = frames.curves[frames.curves["trial_id"].isin(runs["confirm"])]
    points = points.assign(counted=counted(frames, points, "validation_loss", np.inf))
    curves = {
        trial: (part["gradients"].to_numpy(dtype=float), part["counted"].to_numpy(dtype=float))
        for trial, part in points.groupby("trial_id", sort=False)
    }
    theirs = runs.loc[(runs["method"] == frames.baseline) & runs["confirm"].isin(list(curves)), "confirm"]
    reached = [targets.last_value(*curves[trial], until=TARGET * budget) for trial in theirs]
    target = float(np.median(reached)) if reached else float("nan")
    if not np.isfinite(target):
        return rows.assign(gradients=np.nan)[:0], float("nan")
    known = runs["confirm"].isin(list(curves)).to_numpy()
    gradients = [targets.first_arrival(*curves[trial], target) for trial in runs.loc[known, "confirm"]]
    return rows[known].assign(gradients=gradients).reset_index(drop=True), target


def to_target(frames: StudyFrames, problem: str) -> pd.DataFrame:
    """Return gradients to target per method: the columns of `targets.summary`, and the target."""
    times, target = arrivals(frames, problem)
    table = targets.summary(times, frames.baseline)
    order = table["method"].map({method: rank for rank, method in enumerate(frames.methods)})
    return table.assign(target=target).loc[order.sort_values().index].reset_index(drop=True)


def profiles(frames: StudyFrames) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return performance profiles over the problems on which every method has a median of gradients to target.

    Returns:
        Steps: method, tau, share. Scores: method, problems, score, interquartile_ratio. Both empty for fewer than
        `targets.MIN_PROBLEMS` problems.
    """
    medians = {name: to_target(frames, name).set_index("method")["median"] for name in frames.problems}
    times = pd.DataFrame(medians, index=frames.methods).T.dropna()  # an unfinished method is not a miss
    steps, scores = [pd.DataFrame(columns=["method", "tau", "share"])], []
    if len(times) >= targets.MIN_PROBLEMS:
        for method, relative in zip(times.columns, targets.ratios(times.to_numpy(dtype=float)).T, strict=True):
            tau, share = targets.profile(relative)
            steps.append(pd.DataFrame({"method": method, "tau": tau, "share": share}))
            scores.append((method, len(times), targets.score(relative), targets.interquartile_mean(relative)))
    scored = pd.DataFrame(scores, columns=["method", "problems", "score", "interquartile_ratio"])
    return pd.concat(steps[1:] or steps, ignore_index=True), scored


def target(table: pd.DataFrame, look: Look, problem: str) -> Figure | None:
    """Draw gradients to the target per method: medians with intervals, and misses in words (a frame of `to_target`)."""
    rows = table.iloc[::-1].reset_index(drop=True)
    reached = rows[["median", "low", "high"]].to_numpy(dtype=float)
    reached = reached[np.isfinite(reached)]
    if not len(reached):
        return None
    right = 1.06 * float(reached.max())
    figure = Drawing()
    baseline = rows.loc[rows["method"] == look.baseline, "median"]
    if np.isfinite(baseline).any():
        figure.add_shape(**vertical(baseline.iloc[0]))
    for position, row in rows.iterrows():
        _add_row(figure, row, position, look, right)
    figure.update_layout(
        layout(
            height=110 + 42 * len(rows),
            xaxis=axis("gradients to target<br>← lower is better") | {"range": [0, right]},
            yaxis=row_axis([look.row(method) for method in rows["method"]]),
        )
    )
    goal = float(rows["target"].iloc[0])
    end = f"a validation loss of {goal:.3g}" if np.isfinite(goal) else "the problem's tolerance"
    when = "A run counts up to its first measurement at or below it. " if np.isfinite(goal) else ""
    return Figure(
        f"target-{file_name(problem)}",
        "Gradients to target",
        f"Median gradients of the confirming runs to {end}, with exact 95 % intervals where there are enough runs. "
        f"{when}A run that misses counts as infinitely many gradients. The dotted line is the baseline's median.",
        figure,
        data=table,
    )


def _add_row(figure: Drawing, row: pd.Series, position: object, look: Look, right: float) -> None:
    """Add a method's interval, median and misses; the axis ends at `right`."""
    colour, title = look.colours[row["method"]], look.title(row["method"])
    if np.isfinite(row["low"]):
        figure.add(
            "scatter",
            x=single([row["low"], min(row["high"], right)]),
            y=[position, position],
            mode="lines",
            hoverinfo="skip",
            line={"color": colour, "width": 2.5},
            showlegend=False,
        )
    if np.isfinite(row["median"]):
        ratio = f", {row['ratio']:.2f} times the baseline's" if np.isfinite(row["ratio"]) else ""
        figure.add(
            "scatter",
            x=single([row["median"]]),
            y=[position],
            mode="markers",
            name=title,
            showlegend=False,
            marker={"color": colour, "size": 11},
            hovertemplate=f"{title}: %{{x:,.0f}} gradients{ratio}<extra></extra>",
        )
    if row["misses"]:
        figure.add_annotation(
            x=right,
            y=position,
            xanchor="right",
            yshift=11,
            showarrow=False,
            font={"color": colour, "size": 12},
            text=f"{row['misses']} of {row['runs']} missed" + (" →" if row["high"] > right else ""),
        )


def profile(steps: pd.DataFrame, scores: pd.DataFrame, look: Look) -> Figure | None:
    """Performance profiles of all methods over the study's problems (frames of `profiles`)."""
    if steps.empty:
        return None
    figure = Drawing()
    known = scores.set_index("method")["score"]
    for method in known.sort_values(ascending=False, kind="stable").index:
        part, colour = steps[steps["method"] == method], look.colours[method]
        dash = "dot" if method == look.baseline else look.dash(method)
        figure.add(
            "scatter",
            x=single(part["tau"]),
            y=single(part["share"]),
            mode="lines",
            name=f"{look.title(method)} {known[method]:.2f}",
            line={"color": colour, "width": 2.5, "shape": "hv", "dash": dash},
            text=list(map(percent, part["share"])),
            hovertemplate=f"{look.title(method)}: %{{text}} within %{{x:.2f}} times the fastest<extra></extra>",
        )
    figure.update_layout(
        layout(
            height=440,
            xaxis=axis("τ, gradients over the fastest method's") | {"range": [1, targets.REACH]},
            yaxis=axis("share of problems solved") | {"range": [-0.02, 1.02]} | SHARES,
            legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"color": INK, "size": 12}},
            margin={"l": 62, "r": 12, "t": 34, "b": 48},
        )
    )
    problems = int(scores["problems"].iloc[0])
    return Figure(
        "profile",
        "Performance profiles",
        f"Each line is the share of {problems} problems on which a method reaches the target within τ times the "
        f"gradients of the fastest method. The number is its mean height from τ = 1 to {targets.REACH:g}; 1 means "
        "fastest on every problem.",
        figure,
        data=steps.merge(scores, on="method"),
    )
