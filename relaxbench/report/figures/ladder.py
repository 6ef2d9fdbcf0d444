"""The ratio to the baseline against the budget, where a study has a ladder of budgets."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from relaxbench.analysis.comparison import Comparison, MethodResult
from relaxbench.analysis.sentences import ratio, scope
from relaxbench.pages.figure import Drawing, Figure, single
from relaxbench.pages.theme import BAND, INK, Look, axis, band, file_name, key_above, layout, log_axis, plain
from relaxbench.report.figures.ratios import FAR, ratio_axis, span, whiskers


def rungs(results: Sequence[MethodResult], base: str) -> pd.DataFrame:
    """Return the ratios to the baseline over the budgets of one problem's ladder.

    Columns: base, problem, method, rung (gradients of a run), ratio, low, high, band_low, band_high, verdict.

    Args:
        results: of all problems.
        base: the problem's own name.
    """
    columns = ["base", "problem", "method", "rung", "ratio", "low", "high", "band_low", "band_high", "verdict"]
    rows = [
        (base, result.problem, result.method, result.rung, *_numbers(comparison), comparison.verdict)
        for result in results
        if result.base == base and result.rung is not None
        if (comparison := result.against("baseline")) and comparison.known
    ]
    return pd.DataFrame(rows, columns=columns).sort_values(["method", "rung"], ignore_index=True)


def ladder(results: Sequence[MethodResult], look: Look, base: str) -> list[Figure]:
    """Draw one panel per method: its ratio to the baseline against the budget; empty without a ladder.

    Args:
        results: of all problems.
        look: titles and colours.
        base: the problem's own name.
    """
    table = rungs(results, base)
    if table["rung"].nunique() < 2:
        return []
    low, high = span(table[["ratio", "low", "high", "band_low", "band_high"]].to_numpy(dtype=float).ravel())
    one = next(each for each in results if each.base == base and each.against("baseline"))
    first = one.against("baseline")
    assert first is not None
    ends = float(table["rung"].min()), float(table["rung"].max())
    return [
        _panel(table[table["method"] == method], first, look, base, (low, high), ends)
        for method in look.titles
        if method in set(table["method"])
    ]


def _panel(
    rows: pd.DataFrame, first: Comparison, look: Look, base: str, span: tuple[float, float], ends: tuple[float, float]
) -> Figure:
    """The panel of one method; all panels have the same axes."""
    method = str(rows["method"].iloc[0])
    figure, colour, title = Drawing(), look.colours[method], look.title(method)
    line = {"type": "line", "x0": 0, "x1": 1, "xref": "paper", "y0": 1, "y1": 1, "layer": "between"}
    figure.add_shape(**line, line={"color": INK, "width": 1})
    inside = rows[np.isfinite(rows["band_low"].astype(float))]
    if len(inside) > 1:
        low, high = inside["band_low"].astype(float).clip(lower=FAR), inside["band_high"]
        figure.add("scatter", **band(single(inside["rung"]), single(low), single(high), BAND))
    figure.add(
        "scatter",
        x=single(rows["rung"]),
        y=single(rows["ratio"]),
        mode="lines",
        line={"color": colour, "width": 1.5},
        hoverinfo="skip",
        showlegend=False,
    )
    for row in rows.itertuples():
        interval = f" ({ratio(row.low)} to {ratio(row.high)})" if math.isfinite(row.low) else ""
        figure.add(
            "scatter",
            x=single([row.rung]),
            y=single([row.ratio]),
            mode="markers",
            name=title,
            showlegend=False,
            marker={"color": colour, "size": 9, "symbol": "circle" if interval else "circle-open"},
            error_y=whiskers(row.ratio, row.low, row.high, colour),
            hovertemplate=f"{row.rung:,} gradients: {ratio(row.ratio)} times{interval}, {row.verdict}<extra></extra>",
        )
    pad = 0.08 * math.log10(ends[1] / ends[0])
    figure.update_layout(
        layout(
            height=270,
            annotations=[key_above(f"<span style='color:{colour}'>━</span> {title}")],
            margin={"l": 62, "r": 8, "t": 28, "b": 42},
            xaxis=axis("gradients of a run")
            | log_axis(*ends)
            | {"range": [math.log10(ends[0]) - pad, math.log10(ends[1]) + pad]},
            yaxis=axis(f"times {look.title(first.reference)}'s {plain(first.metric)}") | ratio_axis(*span),
        )
    )
    return Figure(
        f"ladder-{file_name(base)}-{file_name(method)}",
        f"{look.titles[method]}: ratio to {look.titles[first.reference]} against the budget",
        f"The ratio at every budget of gradients, with its interval {scope(first)}. Below 1 is better; the shaded band "
        "is the margin of equivalence.",
        figure,
        data=rows.reset_index(drop=True),
    )


def _numbers(comparison: Comparison) -> tuple[float, ...]:
    return comparison.ratio, comparison.low, comparison.high, comparison.band_low, comparison.band_high
