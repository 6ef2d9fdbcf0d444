"""Differences from the baseline with their intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd

from relaxbench.pages.figure import Drawing, Figure, single
from relaxbench.pages.theme import BAND, INK, Look, axis, file_name, layout, outside, plain, row_axis, visible


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
            figure.add_annotation(**outside(float(row["difference"]), left, right, position, colour))
        half = float(row["high"]) - float(row["difference"])
        figure.add(
            "scatter",
            x=single([row["difference"]]),
            y=[position],
            mode="markers",
            name=title,
            showlegend=False,
            marker={"color": colour, "size": 11, "symbol": "diamond" if row["role"] == "control" else "circle"},
            error_x={"type": "data", "array": single([half]), "color": colour, "thickness": 2.5, "width": 0},
            hovertemplate=f"{title}: %{{x:+.3~g}} {plain(unit)} (±{half:.3g}), {row['verdict']}<extra></extra>",
        )
    baseline = look.title(str(look.baseline))
    figure.update_layout(
        layout(
            height=110 + 40 * len(rows),
            xaxis=axis(f"difference from {baseline} ({plain(unit or 'units')})<br>← lower is better")
            | {"range": [left, right]},
            yaxis=row_axis([look.title(method) for method in rows["method"]]),
        )
    )
    band = "; the shaded band is the margin of equivalence" if margin else ""
    return Figure(
        f"difference-{file_name(problem)}",
        f"Difference from {look.titles[str(look.baseline)]}",
        "Each mark is a mean difference over blocks with its unadjusted 95 % interval: an interval that crosses zero "
        f"leaves open who is better{band}. Diamonds are controls; an arrow gives a value beyond the axis.",
        figure,
        data=rows.iloc[::-1][["problem", "method", "difference", "low", "high", "p", "p_holm", "verdict", "margin"]],
    )
