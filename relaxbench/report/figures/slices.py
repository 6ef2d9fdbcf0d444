"""Slices: the result over one hyperparameter at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from relaxbench.pages.figure import Drawing, Figure, Properties, grid
from relaxbench.pages.theme import INK, MUTED, Look, file_name, layout, plain, tint
from relaxbench.report.figures.search_space import (
    LOSS,
    Exploration,
    Reference,
    Scale,
    Vector,
    loss_scale,
    reference_lines,
    thinned,
)

MAX_PANELS = 6

MAX_MARKS = 300
"""Most marks in a panel; more would hide each other. The running median uses all trials."""

BINS = 12
"""Number of points of a running median, each of equally many trials."""

ROW = 196
"""Height of a row of panels with its axis, in pixels."""


def running_median(numbers: Vector, values: Vector) -> pd.DataFrame:
    """Return medians of a hyperparameter's numbers and of the results, per bin: number, median, trials.

    A bin holds a twelfth of the trials. Where only a few different numbers exist, each of them is a bin.

    Args:
        numbers: of the hyperparameter, ``[n]``; trials with a NaN are left out.
        values: results, ``[n]``.
    """
    known = np.isfinite(numbers)
    order = np.argsort(numbers[known], kind="stable")
    x, y = numbers[known][order], values[known][order]
    starts = np.unique(x, return_index=True)[1]
    if len(starts) > BINS:
        starts = np.arange(BINS) * len(x) // BINS
    bins = zip(np.split(x, starts[1:]), np.split(y, starts[1:]), strict=True)
    rows = [(float(np.median(own)), float(np.median(results)), len(own)) for own, results in bins if len(own)]
    return pd.DataFrame(rows, columns=["number", "median", "trials"])


def slices(
    exploration: Exploration, look: Look, problem: str, method: str, baseline: Reference | None
) -> Figure | None:
    """Draw one panel per hyperparameter, those of the scope first.

    None where nothing was searched, and where every trial diverged.
    """
    known = [scale for scale in exploration.scales if exploration.numbers[scale.name].notna().any()][:MAX_PANELS]
    if not len(exploration.finite) or not known:
        return None
    loss = loss_scale(exploration.finite, baseline)
    sample = thinned(len(exploration.trials), MAX_MARKS)
    columns = min(2, len(known))
    rows = -(-len(known) // columns)
    figure = Drawing()
    figure.update_layout(layout(height=24 + ROW * rows, margin={"l": 8, "r": 8, "t": 10, "b": 48}))
    domains = grid(rows, columns, 0.09, 0.34 / rows if rows > 1 else 0.0)
    for panel, scale in enumerate(known):
        number, first = str(panel + 1) if panel else "", panel % columns == 0
        for trace in _panel(exploration, scale, sample, loss, look.colours[method]):
            figure.add("scatter", **trace, xaxis=f"x{number}", yaxis=f"y{number}")
        x, y = domains[panel]
        across = scale.axis(scale.name) | {"showgrid": False, "domain": x, "anchor": f"y{number}"}
        up = loss.axis(LOSS if first else "") | {"domain": y, "anchor": f"x{number}", "showticklabels": first}
        figure.update_layout({f"xaxis{number}": across, f"yaxis{number}": up})
        figure.update_layout(shapes=reference_lines(baseline, loss, number))
    total, diverged = len(exploration.trials), int(exploration.trials["diverged"].sum())
    line = ""
    if baseline:
        line = (
            f" The dotted line is the level of tuned {look.titles[str(look.opponent(method))]} with its 95 % interval."
        )
    return Figure(
        f"slices-{file_name(problem)}-{file_name(method)}",
        f"{look.titles[method]}: one hyperparameter at a time",
        f"Each mark is an explore trial ({len(sample):,} of {total:,} drawn, evenly by rank). Triangles at the top "
        f"edge are diverged trials ({diverged:,} in total) and losses beyond the axis. The line is the running median "
        f"of all trials.{line}",
        figure,
        data=exploration.table(sample),
    )


def _panel(
    exploration: Exploration, scale: Scale, sample: NDArray[np.int64], loss: Scale, colour: str
) -> Iterator[Properties]:
    """Yield the traces of one hyperparameter: the marks of the drawn trials, and the running median of all."""
    numbers, values = exploration.numbers[scale.name].to_numpy(), exploration.values
    x, y = numbers[sample], values[sample]
    if scale.choices:  # the same spread in every run
        x = x + 0.25 * np.sin(2.4 * np.arange(len(x)))
    beyond = exploration.trials["diverged"].to_numpy()[sample] | (y > loss.high)
    name = "" if scale.choices else f"{plain(scale.name)} %{{x:.4~g}}: "
    faint = MUTED if colour == INK else tint(colour, 0.5)
    for rows, symbol, text in ((~beyond, "circle", "%{y:.4~g}"), (beyond, "triangle-up", "diverged or beyond")):
        if rows.any():
            yield {
                "x": x[rows].astype(np.float32),
                "y": np.minimum(y[rows], loss.high).astype(np.float32),
                "mode": "markers",
                "marker": {"color": faint, "size": 4, "symbol": symbol},
                "hovertemplate": f"{name}{text}<extra></extra>",
            }
    median = running_median(numbers, values)
    yield {
        "x": median["number"].to_numpy(np.float32),
        "y": np.minimum(median["median"], loss.high).to_numpy(np.float32),
        "mode": "markers" if scale.choices else "lines",
        "line": {"color": colour, "width": 2.5},
        "marker": {"color": colour, "size": 26, "symbol": "line-ew-open", "line": {"width": 3}},
        "hovertemplate": f"{name}median %{{y:.4~g}}<extra></extra>",
    }
