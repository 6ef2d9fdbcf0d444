"""The theme of all figures: colours, text, axes. The page replaces INK, MUTED, GRID, BAND and PAPER by its colours."""

from __future__ import annotations

import hashlib
import html
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxbench.util.text import power_of_ten

INK, MUTED, GRID, PAPER = "#010203", "#010204", "#010205", "#010206"
"""Placeholders that templates/page.js replaces by the colours of the light or dark theme before it draws."""

BAND = "rgba(1,2,3,0.13)"
"""Translucent INK."""

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#b0609c", "#b8860b", "#3f8fd0", "#8c6d46", "#7b68c8")
"""After Okabe and Ito (Color Universal Design); each has a contrast of 3:1 with white and with the dark background."""

ONE_LINE = 20
"""Longer labels of rows have two lines of about this length: on a telephone they leave half of a figure to the plot."""

_FIXED = {
    "entropy-sgd": 0,
    "hj": 1,
    "heat": 2,
    "hj-implicit": 3,
    "lookahead": 4,
    "sam": 5,
    "sgd-ema": 7,
    "curveball": 6,
}
"""Index into PALETTE of rules that have the same colour in every report."""

_DASHES = ("solid", "dash", "dashdot", "longdash")
_SYMBOLS = ("circle", "square", "triangle-up", "cross")
"""Of the first, second, … method of the same colour."""


@dataclass(frozen=True)
class Look:
    """The titles and colours of methods, the label of the baseline, and with which method another one is compared."""

    titles: Mapping[str, str]
    colours: Mapping[str, str]
    baseline: str | None
    opponents: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        methods: Mapping[str, Mapping[str, Any]],
        baseline: str | None,
        opponents: Mapping[str, str] | None = None,
    ) -> Look:
        """Build it from the manifest's methods. The baseline is neutral; known rules have fixed colours.

        Any other method has a colour that no method has yet, as long as there is one; see `dash` and `symbol`.

        Args:
            methods: the facts of every method.
            baseline: its label.
            opponents: method → the one that it is compared with, where that is not the baseline for all.
        """
        colours = {
            label: INK if label == baseline else PALETTE[_FIXED[label]]
            for label, about in methods.items()
            if label == baseline or (label in _FIXED and about["rule"] == label)
        }
        uses = Counter(colours.values())
        for label in methods:
            if label not in colours:
                colours[label] = min(PALETTE, key=uses.__getitem__)
                uses[colours[label]] += 1
        return cls({label: str(about["title"]) for label, about in methods.items()}, colours, baseline, opponents or {})

    def opponent(self, method: str) -> str | None:
        """Return the method that one is compared with: the baseline, or the whole method for one without a part."""
        return self.opponents.get(method, self.baseline)

    def dash(self, method: str) -> str:
        """Return the kind of a method's line: solid for the first method of its colour, broken for others."""
        return _DASHES[self._place(method) % len(_DASHES)]

    def symbol(self, method: str) -> str:
        """Return the symbol of a method's marks: a circle for the first method of its colour."""
        return _SYMBOLS[self._place(method) % len(_SYMBOLS)]

    def _place(self, method: str) -> int:
        """How many methods before this one have its colour."""
        alike = [each for each in self.titles if self.colours[each] == self.colours[method]]
        return alike.index(method)

    def title(self, method: str) -> str:
        """Return a method's title, escaped for plotly."""
        return plain(self.titles[method])

    def row(self, method: str) -> str:
        """Return a method's title as the label of a row: in two lines if it is long."""
        return two_lines(self.titles[method])


def plain(text: str, limit: int = 28) -> str:
    """Return a text shortened and escaped for plotly, which would interpret tags and %{…}."""
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return html.escape(text, quote=False).replace("{", "&#123;")


def two_lines(text: str) -> str:
    """Return the label of a row, escaped for plotly: in one line, or broken near the middle if it is long."""
    if len(text) <= ONE_LINE:
        return plain(text)
    breaks = [at for at in range(1, len(text)) if text[at - 1] in " -–/_"]
    at = min(breaks, key=lambda at: abs(2 * at - len(text)), default=len(text) // 2)
    return "<br>".join(plain(part.strip(), ONE_LINE + 4) for part in (text[:at], text[at:]))


def rows_height(labels: Sequence[str], each: int) -> int:
    """Return the height in pixels of rows with these labels: at least `each` per row, and room for two lines."""
    return len(labels) * (max(each, 36) if any("<br>" in label for label in labels) else each)


def with_unit(metric: str, unit: str) -> str:
    """Return the label of an axis: the metric with its unit, escaped for plotly."""
    return plain(f"{metric} ({unit})" if unit and unit not in metric else metric, 60)


def vertical(x: float, colour: str = MUTED) -> dict[str, Any]:
    """Return a dotted vertical line through a whole panel, as a shape."""
    line = {"color": colour, "width": 1, "dash": "dot"}
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "layer": "below", "line": line}


def file_name(text: str) -> str:
    """Return a name for a file or an element.

    It is the text itself if that has safe characters only, else its safe characters and a hash of the whole text. So is
    it for names that a folder of reports has itself: its list is index.html, and each report has a page of that kind.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")[:80]
    if safe and safe == text and safe.lower() != "index" and not safe.lower().endswith(".html"):
        return safe
    return f"{safe or 'name'}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def tint(colour: str, alpha: float) -> str:
    """Return a colour with an opacity in [0, 1]."""
    if colour == INK:
        return BAND
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def axis(title: str) -> dict[str, Any]:
    """Return an axis with a title and few marks."""
    return {
        "title": {"text": title, "font": {"color": MUTED, "size": 12}, "standoff": 8},
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": GRID,
        "tickfont": {"color": MUTED, "size": 12},
        "automargin": True,
        "nticks": 6,
        "fixedrange": True,
        "tickangle": 0,
    }


SHARES: dict[str, Any] = {"tickvals": [0, 0.25, 0.5, 0.75, 1], "ticktext": ["0 %", "25 %", "50 %", "75 %", "100 %"]}
"""The marks of an axis of shares."""


MOST_DECADES = 12
"""Decades of a logarithmic axis of which each has a tick."""

MOST_DIGITS = 10
"""Digits of a tick at most."""

ROUNDING = 1e-12
"""Relative differences below this are those of sums in another order."""


def log_axis(low: float, high: float) -> dict[str, Any]:
    """Return a logarithmic axis with ticks at 1, 2 and 5, fewer for many decades, and others for a narrow range.

    At least two of them lie between the ends, or one at a range that is a point.
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = math.log10(high) - math.log10(low)
    every = max(1, -(-(last - first) // MOST_DECADES))
    steps = (1, 2, 5) if decades < 1.8 else (1, 3) if decades < 3 else (1,)
    ticks = [step * 10.0**power for power in range(first, last + 1, every) for step in steps]
    if sum(low <= tick <= high for tick in ticks) < (2 if low < high else 1):
        ticks = _evenly(low, high) if high - low > ROUNDING * high else [low]
    texts = [tick_text(tick) for tick in ticks]
    digits = 3
    while len(set(texts)) < len(texts) and digits < MOST_DIGITS:
        digits += 1
        texts = [tick_text(tick, digits) for tick in ticks]
    return {"type": "log", "tickmode": "array", "tickvals": ticks, "ticktext": texts}


def _evenly(low: float, high: float) -> list[float]:
    """Two to six round numbers between two ends."""
    power = 10.0 ** math.floor(math.log10((high - low) / 2))
    step = max(factor * power for factor in (1, 2, 5) if factor * power <= (high - low) / 2 * (1 + ROUNDING))
    first, last = math.ceil(low / step - ROUNDING), math.floor(high / step + ROUNDING)
    return [min(max(step * place, low), high) for place in range(first, last + 1)]


def tick_text(value: float, digits: int = 3) -> str:
    """A number on an axis: 0.05; 10,000; 2·10⁻⁵."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{float(f'{value:.{digits}g}'):,.{MOST_DIGITS}g}".replace("-", "−")
    power = math.floor(math.log10(abs(value)) + 1e-9)
    factor = f"{value / 10.0**power:.{digits}g}".replace("-", "−")
    return power_of_ten(power) if factor == "1" else f"{factor}·{power_of_ten(power)}"


def visible(low: Sequence[float], high: Sequence[float]) -> tuple[float, float]:
    """Return a range for an axis that keeps extreme methods from flattening all others.

    Args:
        low, high: the span of each method. The range may cut off a span that reaches out four times as far as the
            typical one. Where the typical one is a point at the centre, all are shown.
    """
    centre = float(np.median([low, high]))
    reach = 4 * float(np.median(np.maximum(np.subtract(centre, low), np.subtract(high, centre))))
    if reach <= ROUNDING * max(np.abs([*low, *high])):
        reach = math.inf
    left = min(value for value in low if value >= centre - reach)
    right = max(value for value in high if value <= centre + reach)
    pad = 0.06 * (right - left) or 1.0
    return left - pad, right + pad


def outside(value: float, left: float, right: float, position: float, colour: str) -> dict[str, Any]:
    """Return an annotation at the edge of a panel, for a mark that lies beyond it."""
    beyond = value >= right
    text = f"{value:.3g}".replace("-", "−")
    return {
        "x": right if beyond else left,
        "y": position,
        "xanchor": "right" if beyond else "left",
        "text": f"{text} →" if beyond else f"← {text}",
        "showarrow": False,
        "font": {"color": colour, "size": 12},
    }


KEY = 36
"""Characters of a title in a panel's key at most: a line of the narrowest panel."""


def key_above(words: str) -> dict[str, Any]:
    """Return the key of a panel as one line above it, or one per entry; plotly's legend would wrap."""
    return {
        "name": "key",  # page.js gives it further lines where it is longer than the figure is wide
        "text": words,
        "x": 0,
        "y": 1.03,
        "xref": "paper",
        "yref": "paper",
        "xanchor": "left",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"color": INK, "size": 12},
    }


def band(x: NDArray[np.floating], low: NDArray[np.floating], high: NDArray[np.floating], fill: str) -> dict[str, Any]:
    """Return an interval along x as a filled outline, for a scatter trace.

    Args:
        x, low, high: one number per point, ``[n]``.
        fill: a translucent colour, see `tint`.
    """
    return {
        "x": np.concatenate([x, x[::-1]]),
        "y": np.concatenate([high, low[::-1]]),
        "fill": "toself",
        "mode": "lines",
        "fillcolor": fill,
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def row_axis(labels: list[str]) -> dict[str, Any]:
    """Return a vertical axis with one labelled row per method; see `two_lines`."""
    return axis("") | {
        "tickvals": list(range(len(labels))),
        "ticktext": labels,
        "range": [-0.6, len(labels) - 0.4],
        "tickfont": {"color": INK, "size": 13},
        "showgrid": False,
        "nticks": None,
        "ticklabelstandoff": 8,
    }


def layout(**changes: Any) -> dict[str, Any]:
    """Return the layout that all figures share, with changes. A legend is shown if one is given."""
    usual: dict[str, Any] = {
        "template": {},
        "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER,
        "autosize": True,
        "dragmode": False,
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "color": MUTED, "size": 13},
        "margin": {"l": 8, "r": 16, "t": 8, "b": 48},
        "showlegend": "legend" in changes,
        "hoverlabel": {"bgcolor": PAPER, "bordercolor": GRID, "font": {"color": INK}},
    }
    return usual | changes
