"""The figures of gradients to a target and of performance profiles (frames of budget_collect.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from relaxbench.analysis.targets import REACH
from relaxbench.pages.figure import Drawing, Figure
from relaxbench.pages.theme import INK, MUTED, Look, axis, file_name, layout, row_axis


def target(table: pd.DataFrame, look: Look, problem: str) -> Figure | None:
    """Gradients to the target by method: medians with intervals, misses in words (`budget_collect.to_target`)."""
    rows = table.iloc[::-1].reset_index(drop=True)
    reached = rows[["median", "low", "high"]].to_numpy(dtype=float)
    reached = reached[np.isfinite(reached)]
    if not len(reached):
        return None
    right = 1.06 * float(reached.max())
    figure = Drawing()
    theirs = rows.loc[rows["method"] == look.baseline, "median"]
    if np.isfinite(theirs).any():
        figure.add_shape(
            type="line", x0=theirs.iloc[0], x1=theirs.iloc[0], y0=0, y1=1, yref="paper", layer="below",
            line={"color": MUTED, "width": 1, "dash": "dot"},
        )  # fmt: skip
    for position, row in rows.iterrows():
        colour, title = look.colours[row["method"]], look.title(row["method"])
        if np.isfinite(row["low"]):
            figure.add(
                "scatter", x=_f([row["low"], min(row["high"], right)]), y=[position, position], mode="lines",
                hoverinfo="skip",
                line={"color": colour, "width": 2.5}, showlegend=False,
            )  # fmt: skip
        if np.isfinite(row["median"]):
            ratio = f", {row['ratio']:.2f} times the baseline's" if np.isfinite(row["ratio"]) else ""
            figure.add(
                "scatter", x=_f([row["median"]]), y=[position], mode="markers", name=title, showlegend=False,
                marker={"color": colour, "size": 11},
                hovertemplate=f"{title}: %{{x:,.0f}} gradients{ratio}<extra></extra>",
            )  # fmt: skip
        if row["misses"]:
            figure.add_annotation(
                x=right, y=position, xanchor="right", yshift=11, showarrow=False, font={"color": colour, "size": 12},
                text=f"{row['misses']} of {row['runs']} missed" + (" →" if row["high"] > right else ""),
            )  # fmt: skip
    figure.update_layout(layout(
        height=110 + 42 * len(rows), xaxis=axis("gradients to target<br>← lower is better") | {"range": [0, right]},
        yaxis=row_axis([look.title(method) for method in rows["method"]]),
    ))  # fmt: skip
    goal = float(rows["target"].iloc[0])
    what = f"to a validation loss of {goal:.3g}" if np.isfinite(goal) else "to the problem's tolerance"
    return Figure(
        f"target-{file_name(problem)}",
        "Gradients to target",
        f"Median gradients that the confirming runs take {what}, with exact 95 % intervals, where there are enough "
        "runs for one; a run that misses takes infinitely many. The dotted line is the baseline's median.",
        figure,
        data=table,
    )


def profile(steps: pd.DataFrame, scores: pd.DataFrame, look: Look) -> Figure | None:
    """Performance profiles of all methods over the study's problems (frames of `budget_collect.profiles`)."""
    if steps.empty:
        return None
    figure = Drawing()
    known = scores.set_index("method")["score"]
    for method in known.sort_values(ascending=False, kind="stable").index:
        part, colour = steps[steps["method"] == method], look.colours[method]
        figure.add(
            "scatter", x=_f(part["tau"]), y=_f(part["share"]), mode="lines",
            name=f"{look.title(method)} {known[method]:.2f}",
            line={"color": colour, "width": 2.5, "shape": "hv", "dash": "dot" if method == look.baseline else "solid"},
            hovertemplate=f"{look.title(method)}: %{{y:.0%}} within %{{x:.2f}} times the fastest<extra></extra>",
        )  # fmt: skip
    figure.update_layout(layout(
        height=440, xaxis=axis("τ, gradients over the fastest method's") | {"range": [1, REACH]},
        yaxis=axis("share of problems solved") | {"range": [-0.02, 1.02], "tickformat": ".0%"},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"color": INK, "size": 12}},
        margin={"l": 62, "r": 12, "t": 34, "b": 48},
    ))  # fmt: skip
    problems = int(scores["problems"].iloc[0])
    return Figure(
        "profile",
        "Performance profiles",
        f"Each line is the share of {problems} problems whose target a method reaches within τ times the gradients of "
        f"the fastest method there; the number is its mean height from 1 to {REACH:g}, 1 being the fastest everywhere.",
        figure,
        data=steps.merge(scores, on="method"),
    )


def _f(values: Any) -> np.ndarray[Any, Any]:
    return np.asarray(values, dtype=np.float32)
