"""What figures of ratios share: a logarithmic axis around 1, the band of equivalence, and intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from relaxbench.analysis.comparison import Comparison
from relaxbench.pages.figure import Properties, single
from relaxbench.pages.theme import BAND, INK, log_axis

STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Distances of ticks on an axis of less than half a decade."""

MOST_TICKS = 5
"""More would overlap on a telephone."""

FAR = 1e-9
"""A ratio that is on no axis."""

ROUND = (1, 1.5, 2, 3, 5, 7)
COARSE = (1, 2, 5)
"""Ticks within a decade on a longer axis, by its length; on an even longer one they are those of `log_axis`."""


def span(values: Iterable[float]) -> tuple[float, float]:
    """Return the ends of an axis that shows all finite positive values and 1, with some room on either side."""
    known = [1.0, *(value for value in values if math.isfinite(value) and value > 0)]
    low, high = min(known), max(known)
    room = max((high / low) ** 0.06, 1.02)
    return low / room, high * room


def ratio_axis(low: float, high: float) -> dict[str, Any]:
    """Return a logarithmic axis of ratios with a few round ticks."""
    decades = math.log10(high / low)
    if decades < 0.5:
        step = next((step for step in STEPS if (high - low) / step <= MOST_TICKS), STEPS[-1])
        ticks = [round(index * step, 4) for index in range(math.ceil(low / step), math.floor(high / step) + 1)]
    elif decades < 1.5:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        fine, coarse = (
            [tick for power in powers for factor in factors if low <= (tick := factor * 10.0**power) <= high]
            for factors in (ROUND, COARSE)
        )
        ticks = fine if len(fine) <= MOST_TICKS else coarse
    else:
        return log_axis(low, high) | {"range": [math.log10(low), math.log10(high)], "nticks": None}
    texts = [f"{tick:.10g}" for tick in ticks]
    ends = [math.log10(low), math.log10(high)]
    return {"type": "log", "tickmode": "array", "tickvals": ticks, "ticktext": texts, "range": ends, "nticks": None}


def reference_shapes(band: tuple[float, float] | None, along: str = "x") -> list[dict[str, Any]]:
    """Return the line at 1 and the band of equivalence, as shapes across a panel.

    Args:
        band: ratios that are equivalent; None without a margin.
        along: the axis of the ratios.
    """
    other = "y" if along == "x" else "x"
    across = {f"{other}0": 0, f"{other}1": 1, f"{other}ref": "paper"}
    line = {"type": "line", f"{along}0": 1, f"{along}1": 1, "line": {"color": INK, "width": 1}, "layer": "between"}
    shapes = [across | line]
    if band is not None:
        box = {"type": "rect", "fillcolor": BAND, "line": {"width": 0}, "layer": "below"}
        shapes.insert(0, across | box | {f"{along}0": drawn(band[0]), f"{along}1": band[1]})
    return shapes


def drawn(low: float) -> float:
    """Return the lower end of a band as a logarithmic axis has it: one that begins at 0 ends far outside."""
    return max(low, FAR)


def band_of(comparisons: Iterable[Comparison]) -> tuple[float, float] | None:
    """Return the widest band of equivalence of some comparisons; None where none is finite."""
    bands = [(each.band_low, each.band_high) for each in comparisons]
    known = [pair for pair in bands if all(map(math.isfinite, pair))]
    return (min(low for low, _ in known), max(high for _, high in known)) if known else None


def whiskers(ratio: float, low: float, high: float, colour: str) -> Properties:
    """Return an interval as an error bar around a ratio; none where an end is not known."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return {}
    return {
        "type": "data",
        "symmetric": False,
        "array": single([high - ratio]),
        "arrayminus": single([ratio - low]),
        "color": colour,
        "thickness": 2.5,
        "width": 0,
    }
