"""Parallel coordinates: one line per trial through all its hyperparameters to its result.

The axes lie below each other, so that their names are readable on a telephone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxbench.pages.figure import Drawing, Figure
from relaxbench.pages.theme import BAND, INK, MUTED, PAPER, Look, axis, file_name, layout, plain, tick_text
from relaxbench.report.figures.search_space import Exploration, Reference, Scale, Vector, loss_scale, thinned

MAX_LINES = 200
"""Most explore trials that are drawn, evenly by rank; winners of blocks are drawn in addition."""

FIFTHS = (("best fifth", 0.9), ("second", 0.5), ("third", 0.3), ("fourth", 0.2), ("worst fifth", 0.12))
"""Names of the fifths of the results, and the opacity of their lines."""

ROW = 38
"""Pixels between two axes."""


def places(exploration: Exploration, loss: Scale) -> Vector:
    """Return the places where each trial's line crosses the axes, ``[trials, axes]``: 0 is the low end, 1 the high end.

    The last axis is the validation loss, where 1 also stands for diverged trials and for losses beyond the axis.
    """
    columns = [scale.places(exploration.numbers[scale.name].to_numpy()) for scale in exploration.scales]
    value = np.where(exploration.trials["diverged"], 1.0, np.clip(loss.places(exploration.values), 0, 1))
    return np.stack([*columns, value], axis=1)


def parallel(
    exploration: Exploration, look: Look, problem: str, method: str, baseline: Reference | None
) -> Figure | None:
    """Draw all hyperparameters at once; None where nothing was searched or every trial diverged."""
    if not len(exploration.finite) or not exploration.scales:
        return None
    loss = loss_scale(exploration.finite, baseline)
    lines, total = places(exploration, loss), len(exploration.trials)
    sample = thinned(total, MAX_LINES)
    winner = exploration.trials["winner"].to_numpy()
    fifth = np.arange(total) * 5 // total
    figure, colour = Drawing(), look.colours[method]
    for index, (name, alpha) in reversed(list(enumerate(FIFTHS))):
        rows = sample[(fifth[sample] == index) & ~winner[sample]]
        if len(rows):
            line = {"color": MUTED if colour == INK else colour, "width": 1.2}
            figure.add("scatter", **_joined(lines[rows]), line=line, name=name, opacity=alpha, showlegend=index == 0)
    if winner.any():
        figure.add("scatter", **_joined(lines[winner]), line={"color": INK, "width": 1.6}, name="won its block")
    scales = [*exploration.scales, loss]
    count = len(scales)
    figure.update_layout(
        layout(
            height=90 + ROW * count,
            meta={"labels": "covering"},  # on a telephone names stand on the lines
            xaxis=axis("") | {"range": [-0.02, 1.02], "showgrid": False, "showticklabels": False},
            yaxis=axis("")
            | {
                "tickvals": list(range(count)),
                "ticktext": [plain(scale.name, 20) for scale in scales],
                "nticks": None,
                "range": [count - 0.4, -0.6],
                "tickfont": {"color": INK, "size": 12},
                "ticklabelstandoff": 6,
            },
            annotations=[text for row, scale in enumerate(scales) for text in _ends(scale, row, row == count - 1)],
            shapes=_mark(baseline, loss, count - 1),
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
    mark = ""
    if baseline:
        mark = (
            f" The dotted mark is the level of tuned {look.titles[str(look.opponent(method))]} with its 95 % interval."
        )
    rows = np.union1d(sample, np.flatnonzero(winner))
    return Figure(
        f"parallel-{file_name(problem)}-{file_name(method)}",
        f"{look.titles[method]}: all hyperparameters at once",
        f"Each line is one explore trial ({len(sample):,} of {total:,} drawn, evenly by rank), from its settings down "
        "to its validation loss; stronger is better. Lines in the text's colour are winners of blocks. The right end "
        f"of the last axis also stands for diverged trials and losses beyond it.{mark}",
        figure,
        data=exploration.table(rows),
    )


def _joined(lines: Vector) -> dict[str, Any]:
    """All lines as one trace with gaps."""
    count, axes = lines.shape
    x = np.concatenate([lines, np.full((count, 1), np.nan)], axis=1).ravel()
    y: NDArray[np.int8] = np.tile(np.arange(axes + 1, dtype=np.int8), count)  # the place of a gap is not drawn
    return {"x": x.astype(np.float32), "y": y, "mode": "lines", "hoverinfo": "skip"}


def _ends(scale: Scale, row: int, loss: bool) -> list[dict[str, Any]]:
    """The ends of an axis, or the options of a choice, as small texts above it."""
    texts = scale.choices or (tick_text(scale.low), f"{'≥ ' if loss else ''}{tick_text(scale.high)}")
    annotations = []
    for index, text in enumerate(texts):
        at = index / max(len(texts) - 1, 1)
        annotations.append(
            {
                "text": plain(text, 10),
                "x": at,
                "y": row,
                "yshift": 8,
                "showarrow": False,
                "borderpad": 0,
                "bgcolor": PAPER,  # the text is read, the lines behind it are many
                "xanchor": "left" if at == 0 else "right" if at == 1 else "center",
                "font": {"color": MUTED, "size": 11},
            }
        )
    return annotations


def _mark(baseline: Reference | None, loss: Scale, row: int) -> list[dict[str, Any]]:
    """The tuned baseline's level and its interval across the last axis."""
    if baseline is None:
        return []
    low, level, high = loss.places(np.array([baseline.low, baseline.level, baseline.high]))
    where = {"y0": row - 0.35, "y1": row + 0.35, "layer": "between"}
    line = where | {"type": "line", "x0": level, "x1": level, "line": {"color": INK, "width": 1.5, "dash": "dot"}}
    if not low < high:
        return [line]
    band = {"type": "rect", "x0": max(low, -0.02), "x1": min(high, 1.02), "fillcolor": BAND, "line": {"width": 0}}
    return [where | band, line]
