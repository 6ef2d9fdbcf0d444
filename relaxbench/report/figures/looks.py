"""How the intervals shrank, look by look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from relaxbench.analysis.comparison import Comparison, MethodResult
from relaxbench.analysis.sentences import ratio
from relaxbench.analysis.verdict_table import look_table
from relaxbench.pages.figure import Drawing, Figure, single
from relaxbench.pages.theme import Look, axis, file_name, layout, plain, row_axis
from relaxbench.report.figures.ratios import band_of, ratio_axis, reference_shapes, span, whiskers

STEP = 0.2
"""Distance between two looks of one method; the distance between two methods is 1."""


def looks(results: Sequence[MethodResult], look: Look, problem: str) -> Figure | None:
    """Draw the interval of every method at every look; None where no method has had a second one.

    Args:
        results: of one problem, one per method.
        look: titles and colours.
        problem: its name.
    """
    against = [(result, result.against("baseline")) for result in results]
    rows = [(result, comparison) for result, comparison in against if comparison and comparison.known]
    if not any(len(comparison.history) > 1 for _, comparison in rows):
        return None
    table, figure = look_table([result for result, _ in rows]), Drawing()
    band = band_of(comparison for _, comparison in rows)
    for shape in reference_shapes(band):
        figure.add_shape(**shape)
    left, right = span([*table[["ratio", "low", "high"]].to_numpy(dtype=float).ravel(), *(band or ())])
    for position, (result, comparison) in enumerate(reversed(rows)):
        for trace in _steps(result, comparison, look, position):
            figure.add("scatter", **trace)
    opponents = {comparison.reference for _, comparison in rows}
    whose = look.title(opponents.pop()) if len(opponents) == 1 else "the other"
    metric = plain(rows[0][1].metric)
    figure.update_layout(
        layout(
            height=96 + 46 * len(rows),
            xaxis=axis(f"times {whose}'s {metric}<br>← lower is better") | ratio_axis(left, right),
            yaxis=row_axis([look.row(result.method) for result, _ in reversed(rows)]),
        )
    )
    unclaimed = " Methods without a claim have open marks alone." if not all(each.claimed for _, each in rows) else ""
    return Figure(
        f"looks-{file_name(problem)}",
        "Look by look",
        "The interval of each method at every look, the first one on top. A method stops at the look that decides it; "
        f"the filled mark is the one that counts.{unclaimed}",
        figure,
        data=table,
    )


def _steps(result: MethodResult, comparison: Comparison, look: Look, position: int) -> list[dict[str, Any]]:
    """One mark with its interval per look of a method, from the top of its row down."""
    steps, traces = comparison.history, []
    for index, step in enumerate(steps):
        centre, low, high = np.exp([step.difference, step.low, step.high])
        colour, title = look.colours[result.method], look.title(result.method)
        last = index == len(steps) - 1
        symbol = "circle" if last and comparison.claimed else "circle-open"
        interval = f" ({ratio(low)} to {ratio(high)})" if np.isfinite(low) else ""
        traces.append(
            {
                "x": single([centre]),
                "y": single([position + STEP * ((len(steps) - 1) / 2 - index)]),
                "mode": "markers",
                "name": title,
                "showlegend": False,
                "opacity": 1.0 if last else 0.55,
                "marker": {"color": colour, "size": 9, "symbol": symbol},
                "error_x": whiskers(centre, low, high, colour),
                "hovertemplate": f"{title}, look {index + 1}, {step.blocks} blocks: {ratio(centre)} times{interval}, "
                f"{step.verdict}<extra></extra>",
            }
        )
    return traces
