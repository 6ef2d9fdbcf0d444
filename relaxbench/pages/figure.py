"""A plotly figure as plain data.

plotly's own classes check every property whenever one is set, which takes longer than all else in a report together.
Here nothing is checked: tests/pages/test_figure.py has plotly check every figure of a page.
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
        """Change the layout; a name may be a path, ``"xaxis.title.text"``. Shapes and annotations are added."""
        for name, value in {key: value for each in (*changes, more) for key, value in each.items()}.items():
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
        """As plotly.js reads it, arrays packed."""
        return str(to_json_plotly({"data": _packed(self.data), "layout": self.layout}))


def single(values: Any) -> np.ndarray[Any, Any]:
    """Values in single precision: plotly packs arrays, and half the digits are enough on a screen."""
    return np.asarray(values, dtype=np.float32)


def grid(rows: int, columns: int, across: float, up: float) -> list[tuple[list[float], list[float]]]:
    """Domains (x, y) of the panels of a grid, row by row from the top.

    Args:
        rows, columns: of the grid.
        across, up: gaps between two panels, as parts of the whole.
    """
    width, height = (1 - across * (columns - 1)) / columns, (1 - up * (rows - 1)) / rows
    lefts = [column * (width + across) for column in range(columns)]
    bottoms = [1 - height - row * (height + up) for row in range(rows)]
    return [([left, left + width], [max(low, 0.0), low + height]) for low in bottoms for left in lefts]


def _packed(value: Any) -> Any:
    """Arrays of numbers as base64, which plotly.js reads; they take half the room of their digits."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        array = value.astype("f4") if value.dtype.kind == "f" else value
        packed = {
            "dtype": array.dtype.str[1:],
            "bdata": base64.b64encode(np.ascontiguousarray(array).tobytes()).decode(),
        }
        return packed if array.ndim == 1 else packed | {"shape": ", ".join(map(str, array.shape))}
    if isinstance(value, Mapping):
        return {key: _packed(each) for key, each in value.items()}
    return [_packed(each) for each in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Figure:
    """A figure of the page.

    Attributes:
        key: unique in the page; the name of an exported file.
        title: what it shows.
        reading: one sentence on how to read it.
        figure: the figure itself.
        views: the alternatives of a switch: label → {"visible": [...], "layout": {...}}.
        data: the numbers that are drawn, as its CSV button gives them.
        axes: the alternatives of a second switch, for the horizontal axis: label → {"scale": a factor for every trace's
            x, "layout": {...}}.
    """

    key: str
    title: str
    reading: str
    figure: Drawing
    views: dict[str, Any] = field(default_factory=dict)
    data: pd.DataFrame | None = None
    axes: dict[str, Any] = field(default_factory=dict)
