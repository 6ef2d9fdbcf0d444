"""The figures of the page: ratios on a logarithmic axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from relaxbench.pages.figure import Drawing, Figure
from relaxbench.pages.theme import INK, MUTED, PALETTE, axis, layout, log_axis, row_axis

SHORT = {"memory": "plain loop", "loader": "DataLoader", "processes": "processes", "workers": "by default"}
"""Other ways to run trials, in labels short enough for narrow screens."""


class Mark(NamedTuple):
    """A row of a figure: a ratio, with its interval and target if there are any."""

    label: str
    ratio: float
    low: float | None = None
    high: float | None = None
    target: float | None = None


def ratios(key: str, title: str, reading: str, unit: str, marks: Sequence[Mark]) -> Figure:
    """Draw ratios on a logarithmic axis, one per row, as lines from 1."""
    rows = list(marks)[::-1]  # plotly counts from below
    figure = Drawing()
    places, values = list(range(len(rows))), [row.ratio for row in rows]
    stems_x = [x for value in values for x in (1.0, value, None)]
    stems_y = [y for place in places for y in (place, place, None)]
    figure.add(
        "scatter",
        x=[1.0, 1.0],
        y=[-0.6, len(rows) - 0.4],
        mode="lines",
        line={"color": INK, "width": 1},
        hoverinfo="skip",
    )
    figure.add(
        "scatter",
        x=stems_x,
        y=stems_y,
        mode="lines",
        line={"color": PALETTE[0], "width": 7},
        opacity=0.35,
        hoverinfo="skip",
    )
    if any(row.target for row in rows):
        figure.add(
            "scatter",
            x=[row.target for row in rows if row.target],
            y=[p for p, row in enumerate(rows) if row.target],
            mode="markers",
            marker={"symbol": "line-ns-open", "size": 22, "color": MUTED, "line": {"width": 2}},
            hovertemplate="target %{x:.3~g} ×<extra></extra>",
        )
    spread = [((row.high or row.ratio) - row.ratio, row.ratio - (row.low or row.ratio)) for row in rows]
    figure.add(
        "scatter",
        x=values,
        y=places,
        mode="markers",
        text=[row.label for row in rows],
        marker={"color": PALETTE[0], "size": 11},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [up for up, _ in spread],
            "arrayminus": [down for _, down in spread],
            "color": PALETTE[0],
            "thickness": 2.5,
            "width": 5,
        },
        hovertemplate="%{text}: %{x:.3~g} ×<extra></extra>",
    )
    ends = [x for row in rows for x in (1.0, row.ratio, row.low, row.high, row.target) if x]
    low, high = min(ends) / 1.08, max(ends) * 1.08
    figure.update_layout(
        layout(
            height=90 + 30 * len(rows),
            xaxis=axis(unit) | log_axis(low, high) | {"range": [float(np.log10(low)), float(np.log10(high))]},
            yaxis=row_axis([row.label for row in rows]),
        )
    )
    return Figure(key, title, reading, figure)


def population_figure(found: dict[str, Any]) -> Figure:
    """Draw the speed-up of a population, per rule."""
    marks = [Mark(name, row["ratio"]) for name, row in found["methods"].items()]
    return ratios(
        "population",
        "Times faster than a plain loop of SGD",
        "To the right of 1 the population makes more steps than the plain loop.",
        "times the plain loop's steps",
        marks,
    )


def trials_figure(found: dict[str, Any]) -> Figure | None:
    """Draw the speed-up of our trials over the other ways, per problem."""
    marks = [
        Mark(f"{label}<br>{SHORT[name]}", *(about[key] for key in ("ratio", "low", "high", "target")))
        for label, row in found.items()
        for name, about in [*row.get("against", {}).items(), ("workers", row.get("workers") or {})]
        if "ratio" in about
    ]
    if not marks:
        return None
    figure = ratios(
        "trials",
        "Times faster than other ways to run the same trials",
        "To the right of 1 the engine's choice is faster than the plain loop on data in memory, the same with a "
        "DataLoader, or one process per trial; by default, a study starts several workers, which are compared with the "
        "faster way without a DataLoader; whiskers are 95 % intervals, upright lines are targets, to be reached or "
        "exceeded.",
        "ours, times faster",
        marks,
    )
    figure.figure.update_layout(height=90 + 46 * len(marks))
    return figure


def steps_figure(found: dict[str, Any]) -> Figure:
    """Draw the cost of a step of each class."""
    marks = [Mark(name, *(row[key] for key in ("ratio", "low", "high", "target"))) for name, row in found.items()]
    return ratios(
        "steps",
        "Cost of a step, that of torch.optim.SGD being 1",
        "Further to the left is cheaper; whiskers are 95 % intervals, upright lines are targets, not to be exceeded.",
        "times the cost of a step of SGD",
        marks,
    )


def memory_figure(found: dict[str, Any]) -> Figure | None:
    """Draw measured over stated memory, per network and rule."""
    marks = [
        Mark(f"{network}, {name}", row["measured"] / row["stated"])
        for network, about in found.items()
        for name, row in about["rules"].items()
        if row.get("measured", 0) > 0
    ]
    if not marks:
        return None
    return ratios(
        "memory",
        "Measured peak over what a report states",
        "At 1 a member takes at its peak what a report says of it; further to the right it takes more.",
        "measured, times the stated",
        marks,
    )


FIGURES: dict[str, Callable[[dict[str, Any]], Figure | None]] = {
    "population": population_figure,
    "trials": trials_figure,
    "steps": steps_figure,
    "memory": memory_figure,
}
"""Figures by part; the other parts have tables only."""
