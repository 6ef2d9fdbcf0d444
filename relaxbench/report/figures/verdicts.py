"""The differences from the baseline with their intervals, as a forest plot."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from relaxbench.analysis.comparison import Comparison, MethodResult
from relaxbench.pages.figure import Drawing, Figure, single
from relaxbench.pages.theme import BAND, INK, Look, axis, file_name, layout, outside, plain, row_axis, visible


def forest(results: Sequence[MethodResult], look: Look, problem: str) -> Figure | None:
    """Draw the differences from the baseline with their intervals and the margin.

    Args:
        results: of one problem, one per method.
        look: titles and colours.
        problem: its name.
    """
    against = [(result, result.against("baseline")) for result in results]
    rows = [(result, comparison) for result, comparison in against if comparison and comparison.known]
    if not rows:
        return None
    figure = Drawing()
    margin, unit = rows[0][0].margin or 0.0, plain(rows[0][1].unit)
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
    comparisons = [comparison for _, comparison in rows]
    left, right = visible(
        [*(each.low for each in comparisons), -margin], [*(each.high for each in comparisons), margin]
    )
    for position, (result, comparison) in enumerate(reversed(rows)):
        colour, title = look.colours[result.method], look.title(result.method)
        if not left < comparison.difference < right:
            figure.add_annotation(**outside(comparison.difference, left, right, position, colour))
        half = comparison.high - comparison.difference
        figure.add(
            "scatter",
            x=single([comparison.difference]),
            y=[position],
            mode="markers",
            name=title,
            showlegend=False,
            marker={"color": colour, "size": 11, "symbol": "diamond" if result.role == "control" else "circle"},
            error_x={"type": "data", "array": single([half]), "color": colour, "thickness": 2.5, "width": 0},
            hovertemplate=f"{title}: %{{x:+.3~g}} {unit} (±{half:.3g}), {result.verdict}<extra></extra>",
        )
    baseline = look.title(str(look.baseline))
    figure.update_layout(
        layout(
            height=110 + 40 * len(rows),
            xaxis=axis(f"difference from {baseline} ({unit or 'units'})<br>← lower is better")
            | {"range": [left, right]},
            yaxis=row_axis([look.title(result.method) for result, _ in reversed(rows)]),
        )
    )
    band = " The shaded band is the margin of equivalence." if margin else ""
    return Figure(
        f"difference-{file_name(problem)}",
        f"Difference from {look.titles[str(look.baseline)]}",
        "Each mark is a mean difference over blocks with its unadjusted 95 % interval. An interval that crosses zero "
        f"leaves open which method is better.{band} Diamonds are controls; an arrow gives a value beyond the axis.",
        figure,
        data=_data(rows),
    )


def _data(rows: Sequence[tuple[MethodResult, Comparison]]) -> pd.DataFrame:
    """The numbers that are drawn."""
    keys = ("difference", "low", "high", "p", "p_holm")
    return pd.DataFrame(
        {"problem": result.problem, "method": result.method}
        | {key: getattr(comparison, key) for key in keys}
        | {"verdict": result.verdict, "margin": result.margin}
        for result, comparison in rows
    )
