"""The distribution of validation losses over random search."""

from __future__ import annotations

import numpy as np
import pandas as pd

from relaxbench.analysis.frames import StudyFrames
from relaxbench.pages.figure import Drawing, Figure, single
from relaxbench.pages.theme import Look, axis, file_name, layout, log_axis, row_axis, tint

DRAWN = ("best", "p5", "p25", "p50", "p75", "p95")
"""Columns of `spreads` that are drawn."""


def spreads(frames: StudyFrames, problem: str) -> pd.DataFrame:
    """Return the distribution of random trials' values per method: quantiles p5, p25, p50, p75, p95, best, trials."""
    trials = frames.trials
    explore = trials[(trials["problem"] == problem) & (trials["phase"] == "explore") & (trials["status"] == "done")]
    rows = []
    for method in (method for method in frames.methods if frames.is_random(method)):
        values = explore.loc[explore["method"] == method, "value"].dropna()
        if len(values):
            quantiles = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
            rows.append((method, *quantiles, float(values.min()), len(values)))
    return pd.DataFrame(rows, columns=["method", "p5", "p25", "p50", "p75", "p95", "best", "trials"])


def search(frame: pd.DataFrame, look: Look, problem: str) -> Figure | None:
    """Draw the distribution of the explore trials' values (a frame of `spreads`)."""
    rows = frame.iloc[::-1]
    if rows.empty:
        return None
    ends = rows[list(DRAWN)].to_numpy(dtype=float)
    low, high = float(ends.min()), float(ends.max())
    if low == 0 and high > 0:  # on a logarithmic axis, exact minima lie at its left edge
        low = float(ends[ends > 0].min())
        rows = rows.assign(**{column: rows[column].clip(lower=low) for column in DRAWN})
    figure = Drawing()
    for position, (_, row) in enumerate(rows.iterrows()):
        colour = look.colours[row["method"]]
        figure.add(
            "box",
            y=[position],
            q1=[row["p25"]],
            median=[row["p50"]],
            q3=[row["p75"]],
            lowerfence=[row["p5"]],
            upperfence=[row["p95"]],
            orientation="h",
            name=look.title(row["method"]),
            showlegend=False,
            width=0.5,
            line={"color": colour, "width": 1.6},
            fillcolor=tint(colour, 0.15),
            hoverinfo="x",
        )
        figure.add(
            "scatter",
            x=single([row["best"]]),
            y=[position],
            mode="markers",
            showlegend=False,
            name="best",
            marker={"color": colour, "symbol": "line-ns-open", "size": 12},
            hovertemplate="best %{x:.4~g}<extra></extra>",
        )
    figure.update_layout(
        layout(
            height=110 + 42 * len(rows),
            xaxis=axis("validation loss") | (log_axis(low, high) if low > 0 else {}),
            yaxis=row_axis([look.row(method) for method in rows["method"]]),
        )
    )
    return Figure(
        f"search-{file_name(problem)}",
        "Results of random search",
        "Boxes hold the middle half of each method's explore trials and whiskers 90 %; the tick is the best trial. A "
        "method with a box far to the left is easy to tune.",
        figure,
        data=frame,
    )
