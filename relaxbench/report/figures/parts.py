"""What each part of a method is worth: the method without it against the whole method, as a forest plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from relaxbench.analysis.comparison import MethodResult
from relaxbench.analysis.sentences import ratio, scope
from relaxbench.analysis.worth import SHORT, ablated
from relaxbench.pages.figure import Drawing, Figure, single
from relaxbench.pages.theme import BAND, Look, axis, file_name, layout, plain, row_axis, rows_height, two_lines
from relaxbench.report.figures.ratios import band_of, drawn, ratio_axis, reference_shapes, span, whiskers

COLUMNS = ("ratio", "low", "high", "error", "freedom", "band_low", "band_high", "look", "verdict")


def worths(results: Sequence[MethodResult]) -> pd.DataFrame:
    """Return one row per method without a part that has a ratio to the whole method.

    Columns: problem, whole, method, part, instead, `COLUMNS` of the comparison (a ratio above 1: the part helps), and
    worth, what the verdict says of the part.

    Args:
        results: of one problem.
    """
    rows = [
        {"problem": result.problem, "whole": comparison.reference, "method": result.method}
        | {"part": result.without, "instead": result.instead}
        | {column: getattr(comparison, column) for column in COLUMNS}
        | {"worth": SHORT[comparison.verdict]}
        for result, comparison in ablated(results)
        if comparison.known
    ]
    return pd.DataFrame(rows, columns=["problem", "whole", "method", "part", "instead", *COLUMNS, "worth"])


def parts(results: Sequence[MethodResult], look: Look, problem: str) -> Figure | None:
    """Draw the ratios of methods without a part to the whole ones; None where no part was left out.

    Args:
        results: of one problem, one per method.
        look: titles and colours.
        problem: its name.
    """
    table = worths(results)
    if table.empty:
        return None
    comparisons = [comparison for _, comparison in ablated(results) if comparison.known]
    figure, band = Drawing(), band_of(comparisons)
    several = table["whole"].nunique() > 1
    for shape in reference_shapes(None if several else band):
        figure.add_shape(**shape)
    left, right = span([*table[["ratio", "low", "high"]].to_numpy(dtype=float).ravel(), *(band or ())])
    rows = list(table.itertuples())
    for position, row in enumerate(reversed(rows)):
        colour = look.colours[row.whole]
        if several and math.isfinite(row.band_low):  # a margin in points is another ratio of every method
            figure.add_shape(**_band(drawn(row.band_low), row.band_high, position))
        claimed = math.isfinite(row.low)
        interval = f" ({ratio(row.low)} to {ratio(row.high)})" if claimed else ""
        figure.add(
            "scatter",
            x=single([row.ratio]),
            y=[position],
            mode="markers",
            name=plain(row.part),
            showlegend=False,
            marker={"color": colour, "size": 11, "symbol": "circle" if claimed else "circle-open"},
            error_x=whiskers(row.ratio, row.low, row.high, colour),
            hovertemplate=f"without {plain(row.part)}: {ratio(row.ratio)} times{interval}, {row.worth}<extra></extra>",
        )
    labels = [
        f"{plain(look.titles[row.whole])}:<br>{plain(row.part)}" if several else two_lines(row.part)
        for row in reversed(rows)
    ]
    whose = "the whole method" if several else look.title(rows[0].whole)
    metric = plain(comparisons[0].metric)
    figure.update_layout(
        layout(
            height=92 + rows_height(labels, 30),
            xaxis=axis(f"times {whose}'s {metric} without the part<br>the part helps →") | ratio_axis(left, right),
            yaxis=row_axis(labels),
        )
    )
    each = ", for every method at its own level" if several else ""
    shaded = f" The shaded band is the margin of equivalence, {comparisons[0].margin}{each}." if band else ""
    return Figure(
        f"parts-{file_name(problem)}",
        "What each part is worth",
        f"Each mark is the ratio of {whose if several else look.titles[rows[0].whole]} without one part to the whole, "
        f"both tuned alike, with its interval {scope(comparisons[0])}: right of 1 the part helps, left of 1 it harms, "
        f"and across 1 it is undecided.{shaded}",
        figure,
        data=table,
    )


def _band(low: float, high: float, position: int) -> dict[str, Any]:
    """The band of equivalence of one row."""
    box = {"type": "rect", "fillcolor": BAND, "line": {"width": 0}, "layer": "below"}
    return box | {"x0": low, "x1": high, "y0": position - 0.42, "y1": position + 0.42}
