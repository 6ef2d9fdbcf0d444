"""Parallel coordinates: every hyperparameter of a trial on one line, down to the result.

The axes lie below each other, so that their names can be read on a telephone too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxbench.pages.figure import Drawing, Figure
from relaxbench.pages.theme import BAND, INK, MUTED, Look, axis, file_name, layout, plain
from relaxbench.report.figures.search_space import Reference, loss_range
from relaxbench.report.figures.settings import Scale, Tried, Vector, thinned

MAX_LINES = 200
"""Explore trials drawn, evenly by rank; winners of blocks are drawn besides."""

FIFTHS = (("best fifth", 0.9), ("second", 0.5), ("third", 0.3), ("fourth", 0.2), ("worst fifth", 0.12))
"""Names of the fifths of the results, and how strong their lines are."""

ROW = 38
"""Pixels between two axes."""


def places(tried: Tried, loss: Scale) -> Vector:
    """Where each trial's line crosses the axes ``[trials, axes]``: 0 is the low end of a range, 1 its high end.

    The last axis is the validation loss, where 1 also stands for what diverged or lies beyond.
    """
    found = [each.places(tried.numbers[each.name].to_numpy()) for each in tried.ranges]
    value = np.where(tried.trials["diverged"], 1.0, np.clip(loss.places(tried.trials["value"].to_numpy()), 0, 1))
    return np.stack([*found, value], axis=1)


def parallel(tried: Tried, look: Look, problem: str, method: str, tuned: Reference | None) -> Figure | None:
    """All hyperparameters at once; None where nothing was searched or every trial diverged."""
    finite = tried.trials.loc[~tried.trials["diverged"], "value"].to_numpy()
    if not len(finite) or not tried.ranges:
        return None
    loss = loss_range(finite, tuned)
    lines, total = places(tried, loss), len(tried.trials)
    drawn = thinned(total, MAX_LINES)
    won = tried.trials["winner"].to_numpy()
    fifth = np.arange(total) * 5 // total
    figure, colour = Drawing(), look.colours[method]
    for index, (name, alpha) in reversed(list(enumerate(FIFTHS))):
        rows = drawn[(fifth[drawn] == index) & ~won[drawn]]
        if len(rows):
            line = {"color": MUTED if colour == INK else colour, "width": 1.2}
            figure.add("scatter", **_joined(lines[rows]), line=line, name=name, opacity=alpha, showlegend=index == 0)
    if won.any():
        figure.add("scatter", **_joined(lines[won]), line={"color": INK, "width": 1.6}, name="won its block")
    ranges = [*tried.ranges, loss]
    count = len(ranges)
    figure.update_layout(
        layout(
            height=90 + ROW * count,
            xaxis=axis("") | {"range": [-0.02, 1.02], "showgrid": False, "showticklabels": False},
            yaxis=axis("")
            | {
                "tickvals": list(range(count)),
                "ticktext": [plain(each.name, 20) for each in ranges],
                "nticks": None,
                "range": [count - 0.4, -0.6],
                "tickfont": {"color": INK, "size": 12},
                "ticklabelstandoff": 6,
            },
            annotations=[text for row, each in enumerate(ranges) for text in _ends(each, row, row == count - 1)],
            shapes=_mark(tuned, loss, count - 1),
            legend={
                "orientation": "h",
                "x": 0,
                "y": 1.02,
                "yanchor": "bottom",
                "font": {"color": INK, "size": 12},
                "traceorder": "reversed",
            },
            margin={"l": 8, "r": 8, "t": 34, "b": 14},
        )
    )
    told = (
        f" The dotted mark is tuned {look.titles[str(look.baseline)]}'s mean with its 95 % interval." if tuned else ""
    )
    shown = np.union1d(drawn, np.flatnonzero(won))
    return Figure(
        f"parallel-{file_name(problem)}-{file_name(method)}",
        f"{look.titles[method]}: all hyperparameters at once",
        f"Each line is one explore trial ({len(drawn):,} of {total:,} drawn, evenly by rank) from its settings down to "
        "its validation loss, the stronger the better; lines in the text's colour won their block; the right end of "
        f"the last axis also holds what diverged or lies beyond.{told}",
        figure,
        data=tried.table(shown),
    )


def _joined(lines: Vector) -> dict[str, Any]:
    """Many lines as one trace, a gap between two."""
    count, axes = lines.shape
    x = np.concatenate([lines, np.full((count, 1), np.nan)], axis=1).ravel()
    y: NDArray[np.int8] = np.tile(np.arange(axes + 1, dtype=np.int8), count)  # the gap's place is not drawn
    return {"x": x.astype(np.float32), "y": y, "mode": "lines", "hoverinfo": "skip"}


def _ends(range_: Scale, row: int, loss: bool) -> list[dict[str, Any]]:
    """What lies at the ends of an axis, or each option of a choice, in small type just above it."""
    texts = range_.choices or (f"{range_.low:.3g}", f"{'≥ ' if loss else ''}{range_.high:.3g}")
    found = []
    for index, text in enumerate(texts):
        at = index / max(len(texts) - 1, 1)
        found.append(
            {
                "text": plain(text, 10),
                "x": at,
                "y": row,
                "yshift": 8,
                "showarrow": False,
                "borderpad": 0,
                "xanchor": "left" if at == 0 else "right" if at == 1 else "center",
                "font": {"color": MUTED, "size": 11},
            }
        )
    return found


def _mark(tuned: Reference | None, loss: Scale, row: int) -> list[dict[str, Any]]:
    """The tuned baseline's mean and interval across the last axis."""
    if tuned is None:
        return []
    low, mean, high = loss.places(np.array([tuned.low, tuned.mean, tuned.high]))
    where = {"y0": row - 0.35, "y1": row + 0.35, "layer": "between"}
    line = where | {"type": "line", "x0": mean, "x1": mean, "line": {"color": INK, "width": 1.5, "dash": "dot"}}
    if not low < high:
        return [line]
    band = {"type": "rect", "x0": max(low, -0.02), "x1": min(high, 1.02), "fillcolor": BAND, "line": {"width": 0}}
    return [where | band, line]
