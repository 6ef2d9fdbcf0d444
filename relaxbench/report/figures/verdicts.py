"""The ratios to the baseline with their intervals, as a forest plot."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from relaxbench.analysis.comparison import Comparison, MethodResult
from relaxbench.analysis.sentences import ratio, scope
from relaxbench.pages.figure import Drawing, Figure, single
from relaxbench.pages.theme import Look, axis, file_name, layout, plain, row_axis, rows_height
from relaxbench.report.figures.ratios import band_of, ratio_axis, reference_shapes, span, whiskers

COLUMNS = ("ratio", "low", "high", "error", "freedom", "band_low", "band_high", "look", "verdict", "margin")


def forest(results: Sequence[MethodResult], look: Look, problem: str) -> Figure | None:
    """Draw the ratios to the baseline with their intervals and the band of equivalence.

    Args:
        results: of one problem, one per method; those without a part of another one are drawn by `parts`.
        look: titles and colours.
        problem: its name.
    """
    against = [(result, result.against("baseline")) for result in results]
    rows = [(result, each) for result, each in against if each and each.known and not result.without]
    if not rows:
        return None
    comparisons = [comparison for _, comparison in rows]
    figure, band = Drawing(), band_of(comparisons)
    for shape in reference_shapes(band):
        figure.add_shape(**shape)
    left, right = span([*(end for each in comparisons for end in (each.ratio, each.low, each.high)), *(band or ())])
    for position, (result, comparison) in enumerate(reversed(rows)):
        colour, title = look.colours[result.method], look.title(result.method)
        symbol = "diamond" if result.role == "control" else "circle"
        interval = f" ({ratio(comparison.low)} to {ratio(comparison.high)})" if comparison.claimed else ""
        figure.add(
            "scatter",
            x=single([comparison.ratio]),
            y=[position],
            mode="markers",
            name=title,
            showlegend=False,
            marker={"color": colour, "size": 11, "symbol": symbol if comparison.claimed else f"{symbol}-open"},
            error_x=whiskers(comparison.ratio, comparison.low, comparison.high, colour),
            hovertemplate=f"{title}: {ratio(comparison.ratio)} times{interval}, {result.verdict}<extra></extra>",
        )
    labels = [look.row(result.method) for result, _ in reversed(rows)]
    baseline, metric = look.title(str(look.baseline)), plain(comparisons[0].metric)
    figure.update_layout(
        layout(
            height=92 + rows_height(labels, 30),
            xaxis=axis(f"times {baseline}'s {metric}<br>← lower is better") | ratio_axis(left, right),
            yaxis=row_axis(labels),
        )
    )
    shaded = f" The shaded band is the margin of equivalence, {rows[0][1].margin}." if band else ""
    if any(result.verdict == "equivalent" for result, _ in rows):
        shaded += " The interval of an equivalent method ends at the band."
    controls = " Diamonds are controls." if any(result.role == "control" for result, _ in rows) else ""
    return Figure(
        f"ratio-{file_name(problem)}",
        f"Ratio to {look.titles[str(look.baseline)]}",
        f"Each mark is a ratio with its interval {scope(comparisons[0])}; the verdict is where the interval "
        f"lies: left of 1 better, right of 1 worse, within the band equivalent.{shaded}{controls}",
        figure,
        data=_data(rows),
    )


def _data(rows: Sequence[tuple[MethodResult, Comparison]]) -> pd.DataFrame:
    """The numbers that are drawn."""
    return pd.DataFrame(
        {"problem": result.problem, "method": result.method} | {key: getattr(comparison, key) for key in COLUMNS}
        for result, comparison in rows
    )
