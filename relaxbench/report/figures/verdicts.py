"""The figures: plain frames (collect.py) to plotly, in the look of look.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from relaxbench.pages.figure import Drawing, Figure
from relaxbench.pages.theme import (
    BAND,
    INK,
    MUTED,
    Look,
    axis,
    file_name,
    layout,
    log_axis,
    plain,
    row_axis,
    tint,
    visible,
)


def forest(table: pd.DataFrame, look: Look, problem: str, unit: str) -> Figure | None:
    """Differences from the baseline with their intervals and the margin.

    Args:
        table: rows of `verdicts` of one problem.
    """
    rows = table[np.isfinite(table["difference"].astype(float))].iloc[::-1]
    if rows.empty:
        return None
    figure = Drawing()
    stated = rows["margin"].iloc[0]
    margin = 0.0 if pd.isna(stated) else float(stated)
    if margin:
        figure.add_shape(
            type="rect",
            x0=-margin,
            x1=margin,
            y0=0,
            y1=1,
            yref="paper",
            fillcolor=BAND,
            line={"width": 0},
            layer="below",
        )
    figure.add_shape(
        type="line", x0=0, x1=0, y0=0, y1=1, yref="paper", line={"color": INK, "width": 1}, layer="between"
    )
    left, right = visible([*rows["low"], -margin], [*rows["high"], margin])
    for position, (_, row) in enumerate(rows.iterrows()):
        colour, title = look.colours[row["method"]], look.title(row["method"])
        if not left < row["difference"] < right:
            figure.add_annotation(**_outside(float(row["difference"]), left, right, position, colour))
        half = float(row["high"]) - float(row["difference"])
        figure.add(
            "scatter", x=_f([row["difference"]]), y=[position], mode="markers", name=title, showlegend=False,
            marker={"color": colour, "size": 11, "symbol": "diamond" if row["role"] == "control" else "circle"},
            error_x={"type": "data", "array": _f([half]), "color": colour, "thickness": 2.5, "width": 0},
            hovertemplate=f"{title}: %{{x:+.3~g}} {plain(unit)} (±{half:.3g}), {row['verdict']}<extra></extra>",
        )  # fmt: skip
    baseline = look.title(str(look.baseline))
    figure.update_layout(layout(
        height=110 + 40 * len(rows),
        xaxis=axis(f"difference from {baseline} ({plain(unit or 'units')})<br>← lower is better")
        | {"range": [left, right]},
        yaxis=row_axis([look.title(method) for method in rows["method"]]),
    ))  # fmt: skip
    band = "; the shaded band is the margin of equivalence" if margin else ""
    return Figure(
        f"difference-{file_name(problem)}",
        f"Difference from {look.titles[str(look.baseline)]}",
        "Each mark is a mean difference over blocks with its unadjusted 95 % interval: an interval that crosses zero "
        f"leaves open who is better{band}. Diamonds are controls; an arrow gives a value beyond the axis.",
        figure,
        data=rows.iloc[::-1][["problem", "method", "difference", "low", "high", "p", "p_holm", "verdict", "margin"]],
    )


def dots(values: pd.DataFrame, means: pd.DataFrame, look: Look, problem: str, metric: str, unit: str) -> Figure | None:
    """The test metric of every block, with means and intervals (frames of `collect.results` and `collect.means`)."""
    methods = [method for method in look.titles if method in set(values["method"])][::-1]
    if not methods:
        return None
    figure = Drawing()
    known = means.set_index("method")
    if look.baseline in methods:
        centre = float(known["mean"][look.baseline])
        figure.add_shape(
            type="line", x0=centre, x1=centre, y0=0, y1=1, yref="paper", layer="below",
            line={"color": MUTED, "width": 1, "dash": "dot"},
        )  # fmt: skip
    spans = values.groupby("method")["value"].agg(["min", "max"])
    left, right = visible(list(spans["min"]), list(spans["max"]))
    inset = 0.008 * (right - left)
    for position, method in enumerate(methods):
        part = values.loc[values["method"] == method, "value"].to_numpy()
        colour, title = look.colours[method], look.title(method)
        if not left < known["mean"][method] < right:
            figure.add_annotation(**_outside(float(known["mean"][method]), left, right, position + 0.24, colour))
        offset = 0.16 * np.sin(2.4 * np.arange(len(part))) - 0.12  # spread out, the same in every run
        figure.add(
            "scatter", x=_f(np.clip(part, left + inset, right - inset)), y=_f(position + offset), mode="markers",
            name=title, showlegend=False,
            marker={"color": tint(colour, 0.75) if colour != INK else MUTED, "size": 6,
                    "symbol": [_symbol(value, left, right) for value in part]},
            customdata=_f(part),
            hovertemplate=f"{title}: %{{customdata:.4~g}} {plain(unit)}<extra></extra>",
        )  # fmt: skip
        figure.add(
            "scatter", x=_f([known["mean"][method]]), y=[position + 0.24], mode="markers", name=title, showlegend=False,
            marker={"color": colour, "size": 10, "symbol": "diamond"},
            error_x={"type": "data", "array": _f([known["half"][method]]), "color": colour, "thickness": 2, "width": 0},
            hovertemplate=f"{title}: mean %{{x:.4~g}} {plain(unit)}<extra></extra>",
        )  # fmt: skip
    label = f"{metric} ({unit})" if unit and unit not in metric else metric
    figure.update_layout(layout(
        height=110 + 52 * len(methods),
        xaxis=axis(plain(label, 60)) | {"range": [left, right]},
        yaxis=row_axis([look.title(method) for method in methods]),
    ))  # fmt: skip
    return Figure(
        f"blocks-{file_name(problem)}",
        "Every block",
        "A dot is one block: one whole tuning of the method, its winner run once more on a fresh seed; diamonds are "
        "means with 95 % intervals, the dotted line is the baseline's mean. Triangles lie beyond the axis.",
        figure,
        data=values.merge(means, on="method"),
    )


def schedules(frame: pd.DataFrame, look: Look, problem: str, method: str, scope: str) -> Figure | None:
    """The γ (or σ²) schedules tried, strong where the trial was good (a frame of `collect.schedules`)."""
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
    figure.update_layout(layout(
        height=320, xaxis=axis("gradients"),
        yaxis=axis(name) | (log_axis(low, float(frame["gamma"].max())) if low > 0 else {}),
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"color": INK, "size": 12},
                "traceorder": "reversed"},
        margin={"l": 62, "r": 8, "t": 34, "b": 42},
    ))  # fmt: skip
    drawn, total = frame["trial_id"].nunique(), int(frame["total"].iloc[0])
    return Figure(
        f"schedule-{file_name(problem)}-{file_name(method)}",
        f"{look.titles[method]}: {name} over a run",
        f"Each line is the {name} of one explore trial ({drawn} of {total} drawn), the stronger the better its "
        "validation loss; neutral lines won their block.",
        figure,
        data=frame,
    )


def search(frame: pd.DataFrame, look: Look, problem: str) -> Figure | None:
    """How the explore trials' values are spread (a frame of `collect.searched`)."""
    rows = frame.iloc[::-1]
    if rows.empty:
        return None
    figure = Drawing()
    for position, (_, row) in enumerate(rows.iterrows()):
        colour = look.colours[row["method"]]
        figure.add(
            "box", y=[position], q1=[row["p25"]], median=[row["p50"]], q3=[row["p75"]], lowerfence=[row["p5"]],
            upperfence=[row["p95"]], orientation="h", name=look.title(row["method"]), showlegend=False, width=0.5,
            line={"color": colour, "width": 1.6}, fillcolor=tint(colour, 0.15), hoverinfo="x",
        )  # fmt: skip
        figure.add(
            "scatter", x=_f([row["best"]]), y=[position], mode="markers", showlegend=False, name="best",
            marker={"color": colour, "symbol": "line-ns-open", "size": 12},
            hovertemplate="best %{x:.4~g}<extra></extra>",
        )  # fmt: skip
    low, high = float(rows["best"].min()), float(rows["p95"].max())
    figure.update_layout(layout(
        height=110 + 42 * len(rows), xaxis=axis("validation loss") | (log_axis(low, high) if low > 0 else {}),
        yaxis=row_axis([look.title(method) for method in rows["method"]]),
    ))  # fmt: skip
    return Figure(
        f"search-{file_name(problem)}",
        "What random search found",
        "Boxes hold the middle half of each method's explore trials, whiskers 90 %, the tick is the best: a box far to "
        "the left is a method that is easy to tune.",
        figure,
        data=frame,
    )


def _symbol(value: float, left: float, right: float) -> str:
    return "triangle-right" if value > right else "triangle-left" if value < left else "circle"


def _outside(value: float, left: float, right: float, position: float, colour: str) -> dict[str, Any]:
    """A number at the edge, for a mark that lies beyond it."""
    beyond = value >= right
    shown = f"{value:.3g}".replace("-", "−")
    return {
        "x": right if beyond else left, "y": position, "xanchor": "right" if beyond else "left", "yshift": 9,
        "text": f"{shown} →" if beyond else f"← {shown}", "showarrow": False, "font": {"color": colour, "size": 12},
    }  # fmt: skip


def _f(values: Any) -> np.ndarray[Any, Any]:
    """float32: plotly packs arrays, and half the digits are plenty on a screen."""
    return np.asarray(values, dtype=np.float32)


def _joined(frame: pd.DataFrame) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Many lines as one trace, a gap between two: a trace a trial would be slow to draw."""
    trial = frame["trial_id"].to_numpy()
    cuts = np.flatnonzero(np.diff(trial)) + 1
    return (
        np.insert(_f(frame["gradients"]), cuts, np.nan).astype(np.float32),
        np.insert(_f(frame["gamma"]), cuts, np.nan).astype(np.float32),
    )
