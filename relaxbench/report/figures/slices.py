"""Slices: the result against one hyperparameter at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from relaxbench.pages.figure import Drawing, Figure, grid
from relaxbench.pages.theme import INK, MUTED, Look, file_name, layout, plain, tint
from relaxbench.report.figures.search_space import LOSS, Reference, lines, loss_range
from relaxbench.report.figures.settings import Scale, Tried, Vector, thinned

MAX_PANELS = 6

MAX_MARKS = 300
"""Marks in a panel: more would hide each other, and the running median is one of all trials."""

BINS = 12
"""Points of a running median, of equally many trials each."""

ROW = 196
"""Pixels of a row of panels with its axis."""


def running_median(numbers: Vector, values: Vector) -> pd.DataFrame:
    """Medians of a hyperparameter's numbers and of the results there: number, median, trials.

    A bin holds a twelfth of the trials; where only a few numbers exist, each of them is a bin.
    """
    known = np.isfinite(numbers)
    order = np.argsort(numbers[known], kind="stable")
    x, y = numbers[known][order], values[known][order]
    starts = np.unique(x, return_index=True)[1]
    if len(starts) > BINS:
        starts = np.arange(BINS) * len(x) // BINS
    bins = zip(np.split(x, starts[1:]), np.split(y, starts[1:]), strict=True)
    rows = [(float(np.median(each)), float(np.median(of)), len(each)) for each, of in bins if len(each)]
    return pd.DataFrame(rows, columns=["number", "median", "trials"])


def slices(tried: Tried, look: Look, problem: str, method: str, tuned: Reference | None) -> Figure | None:
    """One panel a hyperparameter, scoping first; None where nothing was searched or every trial diverged."""
    finite = tried.trials.loc[~tried.trials["diverged"], "value"].to_numpy()
    ranges = [each for each in tried.ranges if tried.numbers[each.name].notna().any()][:MAX_PANELS]
    if not len(finite) or not ranges:
        return None
    loss = loss_range(finite, tuned)
    drawn = thinned(len(tried.trials), MAX_MARKS)
    columns = min(2, len(ranges))
    rows = -(-len(ranges) // columns)
    figure = Drawing()
    figure.update_layout(layout(height=24 + ROW * rows, margin={"l": 8, "r": 8, "t": 10, "b": 48}))
    values = tried.trials["value"].to_numpy()
    domains = grid(rows, columns, 0.05, 0.34 / rows if rows > 1 else 0.0)
    for panel, searched in enumerate(ranges):
        number, first = str(panel + 1) if panel else "", panel % columns == 0
        place = {"xaxis": f"x{number}", "yaxis": f"y{number}"}
        _panel(figure, place, searched, tried, values, drawn, loss, look, method)
        x, y = domains[panel]
        across = searched.axis(searched.name) | {"showgrid": False, "domain": x, "anchor": f"y{number}"}
        up = loss.axis(LOSS if first else "") | {"domain": y, "anchor": f"x{number}", "showticklabels": first}
        figure.update_layout({f"xaxis{number}": across, f"yaxis{number}": up, "shapes": lines(tuned, loss, number)})
    total, diverged = len(tried.trials), int(tried.trials["diverged"].sum())
    line = (
        f", the dotted line is tuned {look.titles[str(look.baseline)]}'s mean with its 95 % interval" if tuned else ""
    )
    return Figure(
        f"slices-{file_name(problem)}-{file_name(method)}",
        f"{look.titles[method]}: one hyperparameter at a time",
        f"A mark is an explore trial ({len(drawn):,} of {total:,} drawn, evenly by rank); triangles at the top edge "
        f"diverged ({diverged:,} did) or lie beyond it; the line is the running median of all trials{line}.",
        figure,
        data=tried.table(drawn),
    )


def _panel(
    figure: Drawing,
    place: dict[str, str],
    searched: Scale,
    tried: Tried,
    values: Vector,
    drawn: Any,
    loss: Scale,
    look: Look,
    method: str,
) -> None:
    """The marks and the running median of one hyperparameter."""
    colour = look.colours[method]
    faint = MUTED if colour == INK else tint(colour, 0.5)
    numbers = tried.numbers[searched.name].to_numpy()
    middle = running_median(numbers, values)
    x, y = numbers[drawn], values[drawn]
    if searched.choices:  # spread out, the same in every run
        x = x + 0.25 * np.sin(2.4 * np.arange(len(x)))
    beyond = tried.trials["diverged"].to_numpy()[drawn] | (y > loss.high)
    name = "" if searched.choices else f"{plain(searched.name)} %{{x:.4~g}}: "
    for chosen, symbol, said in ((~beyond, "circle", "%{y:.4~g}"), (beyond, "triangle-up", "diverged or beyond")):
        if chosen.any():
            figure.add(
                "scatter",
                x=x[chosen].astype(np.float32),
                y=np.minimum(y[chosen], loss.high).astype(np.float32),
                mode="markers",
                marker={"color": faint, "size": 4, "symbol": symbol},
                hovertemplate=f"{name}{said}<extra></extra>",
                **place,
            )
    figure.add(
        "scatter",
        x=middle["number"].to_numpy(np.float32),
        y=np.minimum(middle["median"], loss.high).to_numpy(np.float32),
        mode="markers" if searched.choices else "lines",
        line={"color": colour, "width": 2.5},
        marker={"color": colour, "size": 26, "symbol": "line-ew-open", "line": {"width": 3}},
        hovertemplate=f"{name}median %{{y:.4~g}}<extra></extra>",
        **place,
    )
