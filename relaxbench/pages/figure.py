"""A plotly figure as plain data.

plotly's classes validate every property when it is set, which would take half the time of a large report. Nothing is
validated here; tests/pages/test_figure.py lets plotly validate every figure of a page.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from plotly.io.json import to_json_plotly

Properties = dict[str, Any]


class Drawing:
    """Traces and their layout, in plotly's terms.

    Attributes:
        data: the traces.
        layout: the layout.
    """

    def __init__(self) -> None:
        self.data: list[Properties] = []
        self.layout: Properties = {}

    def add(self, type: str, **trace: Any) -> None:
        """Add a trace: ``"scatter"``, ``"box"``, ``"heatmap"``, ``"contour"``."""
        self.data.append({"type": type} | trace)

    def add_shape(self, **shape: Any) -> None:
        """Add a line or a rectangle."""
        self.layout.setdefault("shapes", []).append(shape)

    def add_annotation(self, **annotation: Any) -> None:
        """Add a text."""
        self.layout.setdefault("annotations", []).append(annotation)

    def update_layout(self, *changes: Mapping[str, Any], **more: Any) -> None:
        """Change the layout. A name may be a path, ``"xaxis.title.text"``. Shapes and annotations are appended."""
        for name, value in {key: value for change in (*changes, more) for key, value in change.items()}.items():
            *path, last = name.split(".")
            place = self.layout
            for step in path:
                place = place.setdefault(step, {})
            if last in ("shapes", "annotations"):
                place[last] = [*place.get(last, []), *value]
            elif isinstance(value, Mapping) and isinstance(place.get(last), dict):
                place[last] |= value
            else:
                place[last] = dict(value) if isinstance(value, Mapping) else value

    def to_json(self) -> str:
        """Return the JSON that plotly.js reads, with packed arrays."""
        return str(to_json_plotly({"data": _packed(self.data), "layout": self.layout}))


def single(values: Any) -> np.ndarray[Any, Any]:
    """Return values in single precision, which is enough on a screen and halves the size of packed arrays."""
    return np.asarray(values, dtype=np.float32)


def grid(rows: int, columns: int, across: float, up: float) -> list[tuple[list[float], list[float]]]:
    """Return the domains (x, y) of the panels of a grid, row by row from the top.

    Args:
        rows, columns: the size of the grid.
        across, up: horizontal and vertical gap between two panels, as shares of the whole.
    """
    width, height = (1 - across * (columns - 1)) / columns, (1 - up * (rows - 1)) / rows
    lefts = [column * (width + across) for column in range(columns)]
    bottoms = [1 - height - row * (height + up) for row in range(rows)]
    return [([left, left + width], [max(low, 0.0), low + height]) for low in bottoms for left in lefts]


def _packed(value: Any) -> Any:
    """Arrays of numbers as base64, which plotly.js reads and which takes half the space of their digits."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        array = value.astype("f4") if value.dtype.kind == "f" else value
        packed = {
            "dtype": array.dtype.str[1:],
            "bdata": base64.b64encode(np.ascontiguousarray(array).tobytes()).decode(),
        }
        return packed if array.ndim == 1 else packed | {"shape": ", ".join(map(str, array.shape))}
    if isinstance(value, Mapping):
        return {key: _packed(item) for key, item in value.items()}
    return [_packed(item) for item in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Figure:
    """A figure of the page.

    Attributes:
        key: unique in the page; the name of an exported file.
        title: heading of the figure.
        reading: how to read it, in a sentence or two.
        figure: traces and layout.
        views: alternatives of a switch: label → {"visible": [...], "layout": {...}}.
        data: the numbers that are drawn, for the CSV button.
        axes: alternatives of a second switch, for the horizontal axis: label → {"scale": a factor for the x of every
            trace, "layout": {...}}.
    """

    key: str
    title: str
    reading: str
    figure: Drawing
    views: dict[str, Any] = field(default_factory=dict)
    data: pd.DataFrame | None = None
    axes: dict[str, Any] = field(default_factory=dict)
