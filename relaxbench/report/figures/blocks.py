"""The test metric of every block."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from relaxbench.analysis.frames import ProblemFacts, StudyFrames
from relaxbench.pages.figure import Drawing, Figure, Properties, single
from relaxbench.pages.theme import (
    INK,
    MUTED,
    Look,
    axis,
    file_name,
    layout,
    outside,
    plain,
    row_axis,
    tint,
    vertical,
    visible,
    with_unit,
)
from relaxbench.util.text import counted, listed


def results(frames: StudyFrames, problem: str) -> pd.DataFrame:
    """Return the test metric of every block: method, block, value; NaN where the winner was not run again."""
    rows = frames.blocks[frames.blocks["problem"] == problem]
    return rows[["method", "block", "test_metric"]].rename(columns={"test_metric": "value"}).reset_index(drop=True)


def dots(
    values: pd.DataFrame,
    levels: Mapping[str, float],
    look: Look,
    problem: str,
    about: ProblemFacts,
    whole: Collection[str] = (),
) -> Figure | None:
    """Draw the test metric of every block, with the estimate that verdicts rest on.

    Args:
        values: of `results`.
        levels: method → geometric mean of the best of T trials, NaN where there is no estimate.
        look: titles and colours.
        problem: its name.
        about: its facts.
        whole: methods whose blocks are used whole, because their trials are not independent random ones.
    """
    data, values = values, values.dropna(subset="value")
    methods = [method for method in look.titles if method in set(values["method"])][::-1]
    if not methods:
        return None
    figure, unit = Drawing(), plain(about["unit"])
    if np.isfinite(levels.get(str(look.baseline), np.nan)):
        figure.add_shape(**vertical(levels[str(look.baseline)]))
    left, right = _span(values, about, levels.get(str(look.baseline), np.nan))
    for position, method in enumerate(methods):
        colour, level = look.colours[method], levels.get(method, np.nan)
        if level <= left or level >= right:
            figure.add_annotation(**outside(level, left, right, position + 0.24, colour))
        title, blocks = look.title(method), values.loc[values["method"] == method, "value"].to_numpy()
        common = {"mode": "markers", "name": title, "showlegend": False}
        hover = f"{title}: %{{customdata:.4~g}} {unit}<extra></extra>"
        figure.add("scatter", **common, **_marks(blocks, (left, right), position, colour), hovertemplate=hover)
        hover = f"{title}: geometric mean %{{x:.4~g}} {unit}<extra></extra>"
        if np.isfinite(level):
            figure.add("scatter", **common, **_level(level, position, colour), hovertemplate=hover)
    figure.update_layout(
        layout(
            height=110 + 52 * len(methods),
            meta={"room": 40},  # on a telephone names stand above the diamonds
            xaxis=axis(with_unit(about["metric"], about["unit"])) | {"range": [left, right]},
            yaxis=row_axis([look.row(method) for method in methods]),
        )
    )
    return Figure(
        f"blocks-{file_name(problem)}",
        "Every block",
        "Each dot is one block: one complete tuning of the method, and its winner run once more on a fresh seed. "
        f"{_diamonds(methods[::-1], whole, look)}; the dotted line is the baseline's. Triangles are blocks beyond the "
        f"axis.{_missing(len(data) - len(values))}",
        figure,
        data=data.assign(level=data["method"].map(dict(levels)).astype(float)),
    )


def _span(values: pd.DataFrame, about: ProblemFacts, level: float) -> tuple[float, float]:
    """The ends of the axis. A few disasters do not flatten the others; a censored metric ends at the budget anyway."""
    whole = [float(values["value"].min())], [float(values["value"].max())]
    left, right = visible(*(whole if about["censored"] else _whiskers(values)))
    pad = 0.03 * (right - left)
    return (min(left, level - pad), max(right, level + pad)) if np.isfinite(level) else (left, right)


def _whiskers(values: pd.DataFrame) -> tuple[list[float], list[float]]:
    """The span of each method without its outliers, as of a box plot."""
    low, high = [], []
    for _, own in values.groupby("method")["value"]:
        first, third = own.quantile([0.25, 0.75])
        reach = 1.5 * (third - first) or np.inf
        usual = own[own.between(first - reach, third + reach)]
        low.append(float(usual.min()))
        high.append(float(usual.max()))
    return low, high


def _diamonds(methods: Sequence[str], whole: Collection[str], look: Look) -> str:
    """What the diamonds are: for random search they know more than the dots."""
    best = "of the best of a block's number of trials, from all trials and their confirm runs"
    dots = "of the dots, in which rare disasters count less"
    own = [look.titles[method] for method in methods if method in whole]
    if not own:
        return f"Diamonds are geometric means {best}"
    if len(own) == len(methods):
        return f"Diamonds are geometric means {dots}"
    return f"Diamonds are geometric means: for {listed(own)} {dots}; for the others {best}"


def _missing(blocks: int) -> str:
    """How many blocks have no dot, if any."""
    if not blocks:
        return ""
    return f" {counted(blocks, 'block')} {'has' if blocks == 1 else 'have'} no dot: the winner was not run again."


def _marks(values: np.ndarray, span: tuple[float, float], position: int, colour: str) -> Properties:
    """One mark per block in a row, spread out vertically; triangles at the edge lie beyond the axis."""
    left, right = span
    inset = 0.008 * (right - left)
    offset = 0.16 * np.sin(2.4 * np.arange(len(values))) - 0.12  # the same spread in every run
    symbols = ["triangle-right" if value > right else "triangle-left" if value < left else "circle" for value in values]
    return {
        "x": single(np.clip(values, left + inset, right - inset)),
        "y": single(position + offset),
        "marker": {"color": tint(colour, 0.75) if colour != INK else MUTED, "size": 6, "symbol": symbols},
        "customdata": single(values),
    }


def _level(level: float, position: int, colour: str) -> Properties:
    """A diamond above the marks of a row."""
    return {
        "x": single([level]),
        "y": [position + 0.24],
        "marker": {"color": colour, "size": 10, "symbol": "diamond"},
    }
