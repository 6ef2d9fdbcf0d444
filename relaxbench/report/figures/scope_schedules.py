"""Schedules of the scope (γ or σ²) of explore trials."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from relaxbench.analysis.frames import StudyFrames
from relaxbench.pages.figure import Drawing, Figure, single
from relaxbench.pages.theme import INK, Look, axis, file_name, layout, log_axis, tint

MAX_SCHEDULES = 120
"""Most explore trials in a figure of schedules; choosing them evenly by rank of value keeps the distribution."""

MAX_POINTS = 16
"""Most points of a drawn schedule, evenly along the run; schedules are smooth."""


def sampled(frames: StudyFrames, problem: str, method: str) -> pd.DataFrame:
    """Return schedules of explore trials: trial_id, gradients, gamma, fifth (0 best … 4 worst by value), winner, total.

    They are of at most MAX_SCHEDULES trials, evenly by rank of value, and of every block's winner. Empty where a method
    has no scope.
    """
    trials = frames.trials
    own = (trials["problem"] == problem) & (trials["method"] == method) & (trials["status"] == "done")
    ranked = trials[own & (trials["phase"] == "explore")].sort_values("value", kind="stable")
    curves = frames.curves[frames.curves["trial_id"].isin(ranked["id"])]
    curves = curves[np.isfinite(curves["gamma"])][["trial_id", "gradients", "gamma"]]
    curves = curves[curves.groupby("trial_id")["gamma"].transform("size") > 1]  # a single point is no line
    ranked = ranked[ranked["id"].isin(curves["trial_id"].unique())]
    total = len(ranked)
    fifth = pd.Series(np.arange(total) * 5 // max(total, 1), index=ranked["id"])
    sample = ranked["id"].iloc[np.unique(np.linspace(0, total - 1, min(total, MAX_SCHEDULES)).astype(int))]
    of = (frames.blocks["problem"] == problem) & (frames.blocks["method"] == method)
    winners = frames.blocks.loc[of, "winner"].dropna()
    drawn = curves[curves["trial_id"].isin(sample) | curves["trial_id"].isin(winners)]
    place, size = drawn.groupby("trial_id").cumcount(), drawn["trial_id"].map(drawn["trial_id"].value_counts())
    # Keep every k-th point, counted from the last one, so that the end of a schedule is kept.
    drawn = drawn[(size - 1 - place) % np.ceil(size / MAX_POINTS).astype(int) == 0]
    return drawn.assign(
        fifth=drawn["trial_id"].map(fifth).astype(int), winner=drawn["trial_id"].isin(winners), total=total
    )


def schedules(frame: pd.DataFrame, look: Look, problem: str, method: str, scope: str) -> Figure | None:
    """Draw the schedules of γ or σ², stronger for better trials (a frame of `sampled`)."""
    if frame.empty:
        return None
    figure, colour = Drawing(), look.colours[method]
    alphas = (0.9, 0.5, 0.3, 0.2, 0.12)
    names = ("best fifth", "second", "third", "fourth", "worst fifth")
    for fifth in range(4, -1, -1):
        part = frame[(frame["fifth"] == fifth) & ~frame["winner"]]
        if len(part):
            x, y = _joined(part)
            line = {"color": tint(colour, alphas[fifth]), "width": 1.2}
            figure.add(
                "scatter", x=x, y=y, mode="lines", name=names[fifth], line=line, hoverinfo="skip", showlegend=fifth == 0
            )
    if frame["winner"].any():
        x, y = _joined(frame[frame["winner"]])
        figure.add(
            "scatter", x=x, y=y, mode="lines", name="won its block", line={"color": INK, "width": 2}, hoverinfo="skip"
        )
    low = float(frame["gamma"].min())
    name = "σ²" if scope == "sigma" else "γ"
    figure.update_layout(
        layout(
            height=320,
            xaxis=axis("gradients"),
            yaxis=axis(name) | (log_axis(low, float(frame["gamma"].max())) if low > 0 else {}),
            legend={
                "orientation": "h",
                "x": 0,
                "y": 1.02,
                "yanchor": "bottom",
                "font": {"color": INK, "size": 12},
                "traceorder": "reversed",
            },
            margin={"l": 62, "r": 8, "t": 34, "b": 42},
        )
    )
    drawn, total = frame["trial_id"].nunique(), int(frame["total"].iloc[0])
    return Figure(
        f"schedule-{file_name(problem)}-{file_name(method)}",
        f"{look.titles[method]}: {name} over a run",
        f"Each line is the {name} of one explore trial ({drawn} of {total} drawn), stronger for a better validation "
        "loss. Thick lines are the winners of their blocks.",
        figure,
        data=frame,
    )


def _joined(frame: pd.DataFrame) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """All lines as one trace with gaps; one trace per trial would be slow to draw."""
    trial = frame["trial_id"].to_numpy()
    cuts = np.flatnonzero(np.diff(trial)) + 1
    return (
        np.insert(single(frame["gradients"]), cuts, np.nan).astype(np.float32),
        np.insert(single(frame["gamma"]), cuts, np.nan).astype(np.float32),
    )
