"""The test metric of every block."""

from __future__ import annotations

import numpy as np
import pandas as pd

from relaxbench.analysis.frames import StudyFrames
from relaxbench.pages.figure import Drawing, Figure, single
from relaxbench.pages.theme import INK, MUTED, Look, axis, file_name, layout, outside, plain, row_axis, tint, visible


def results(frames: StudyFrames, problem: str) -> pd.DataFrame:
    """Test metric of every block: method, block, value."""
    rows = frames.blocks[frames.blocks["problem"] == problem]
    return rows[["method", "block", "test_metric"]].rename(columns={"test_metric": "value"}).reset_index(drop=True)


def dots(values: pd.DataFrame, means: pd.DataFrame, look: Look, problem: str, metric: str, unit: str) -> Figure | None:
    """The test metric of every block, with means and intervals (frames of `results` and `paired.means`)."""
    methods = [method for method in look.titles if method in set(values["method"])][::-1]
    if not methods:
        return None
    figure = Drawing()
    known = means.set_index("method")
    if look.baseline in methods:
        centre = float(known["mean"][look.baseline])
        figure.add_shape(
            type="line",
            x0=centre,
            x1=centre,
            y0=0,
            y1=1,
            yref="paper",
            layer="below",
            line={"color": MUTED, "width": 1, "dash": "dot"},
        )
    spans = values.groupby("method")["value"].agg(["min", "max"])
    left, right = visible(list(spans["min"]), list(spans["max"]))
    inset = 0.008 * (right - left)
    for position, method in enumerate(methods):
        part = values.loc[values["method"] == method, "value"].to_numpy()
        colour, title = look.colours[method], look.title(method)
        if not left < known["mean"][method] < right:
            figure.add_annotation(**outside(float(known["mean"][method]), left, right, position + 0.24, colour))
        offset = 0.16 * np.sin(2.4 * np.arange(len(part))) - 0.12  # spread out, the same in every run
        figure.add(
            "scatter",
            x=single(np.clip(part, left + inset, right - inset)),
            y=single(position + offset),
            mode="markers",
            name=title,
            showlegend=False,
            marker={
                "color": tint(colour, 0.75) if colour != INK else MUTED,
                "size": 6,
                "symbol": [_symbol(value, left, right) for value in part],
            },
            customdata=single(part),
            hovertemplate=f"{title}: %{{customdata:.4~g}} {plain(unit)}<extra></extra>",
        )
        figure.add(
            "scatter",
            x=single([known["mean"][method]]),
            y=[position + 0.24],
            mode="markers",
            name=title,
            showlegend=False,
            marker={"color": colour, "size": 10, "symbol": "diamond"},
            error_x={
                "type": "data",
                "array": single([known["half"][method]]),
                "color": colour,
                "thickness": 2,
                "width": 0,
            },
            hovertemplate=f"{title}: mean %{{x:.4~g}} {plain(unit)}<extra></extra>",
        )
    label = f"{metric} ({unit})" if unit and unit not in metric else metric
    figure.update_layout(
        layout(
            height=110 + 52 * len(methods),
            xaxis=axis(plain(label, 60)) | {"range": [left, right]},
            yaxis=row_axis([look.title(method) for method in methods]),
        )
    )
    return Figure(
        f"blocks-{file_name(problem)}",
        "Every block",
        "A dot is one block: one whole tuning of the method, its winner run once more on a fresh seed; diamonds are "
        "means with 95 % intervals, the dotted line is the baseline's mean. Triangles lie beyond the axis.",
        figure,
        data=values.merge(means, on="method"),
    )


def _symbol(value: float, left: float, right: float) -> str:
    return "triangle-right" if value > right else "triangle-left" if value < left else "circle"
