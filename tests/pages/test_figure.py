"""Drawings against plotly itself: what it would refuse, how it lays out a grid, what it packs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from relaxbench.analysis.findings import Findings
from relaxbench.pages.figure import Drawing, Figure, grid
from relaxbench.pages.theme import Look
from relaxbench.report import StudyFrames, sections


def drawn(frames: StudyFrames) -> list[Figure]:
    """Every figure of a study's page."""
    look = Look.of({label: frames.method(label) for label in frames.methods}, frames.baseline)
    found: list[Figure] = []

    def collect(value: object) -> None:
        if isinstance(value, Figure):
            found.append(value)
        elif isinstance(value, sections.ProblemSections):
            collect(vars(value))
        elif isinstance(value, dict | list):
            for each in value.values() if isinstance(value, dict) else value:
                collect(each)

    collect(sections.problems(Findings.of(frames), look, {}))
    return found


def names(value: object, path: str = "") -> set[str]:
    """Every property that is set, by its path."""
    if value is None or path == ".layout.template":
        return set()
    if isinstance(value, list):
        return set().union(*(names(each, f"{path}[]") for each in value))
    if not isinstance(value, dict) or "bdata" in value or not value:
        return {path}
    return set().union(*(names(each, f"{path}.{key}") for key, each in value.items()))


def test_plotly_accepts_every_figure_of_a_page_and_of_its_switches(both: StudyFrames) -> None:
    found = drawn(both)
    assert len({figure.key for figure in found}) == len(found) > 60
    for figure in found:
        written = json.loads(figure.figure.to_json())
        checked = go.Figure(written)  # raises for what plotly does not know
        # plotly for Python reads "line_width" as "line.width", plotly.js does not.
        assert names(written) == names(json.loads(checked.to_json()))
        assert len(checked.data) == len(figure.figure.data) > 0 and checked.layout.height > 100
        for view in (*figure.views.values(), *figure.axes.values()):
            checked.update_layout(view["layout"])
            assert len(view.get("visible", view.get("scale"))) == len(checked.data)
        assert figure.data is not None and len(figure.data) > 0


def test_plotly_would_refuse_a_mistake(both: StudyFrames) -> None:
    mistaken = Drawing()
    mistaken.add("scatter", x=np.zeros(2), color="red")
    with pytest.raises(ValueError, match="color"):
        go.Figure(json.loads(mistaken.to_json()))


def test_arrays_are_packed_and_numbers_kept() -> None:
    drawing = Drawing()
    drawing.add("scatter", x=np.array([1.5, np.nan, -2.0]), y=np.arange(3, dtype=np.int8), text=["a", "b", "c"])
    drawing.add("heatmap", z=np.arange(6, dtype=np.float32).reshape(2, 3))
    written = json.loads(drawing.to_json())["data"]
    assert written[0]["x"]["dtype"] == "f4" and written[0]["y"]["dtype"] == "i1" and written[1]["z"]["shape"] == "2, 3"
    other = go.Figure([go.Scatter(x=np.array([1.5, np.nan, -2.0], dtype=np.float32), y=np.arange(3, dtype=np.int8))])
    other.add_heatmap(z=np.arange(6, dtype=np.float32).reshape(2, 3))
    theirs = json.loads(other.to_json())["data"]
    assert (written[0]["x"], written[0]["y"], written[1]["z"]) == (theirs[0]["x"], theirs[0]["y"], theirs[1]["z"])


def test_layouts_are_changed_by_path() -> None:
    drawing = Drawing()
    drawing.update_layout({"xaxis": {"title": {"text": "a"}, "range": [0, 1]}}, height=100)
    drawing.update_layout({"xaxis.title.text": "b", "yaxis.type": "log"}, xaxis={"nticks": 3})
    drawing.add_shape(type="line", x0=0)
    drawing.update_layout(shapes=[{"type": "rect"}])
    drawing.add_annotation(text="here")
    assert drawing.layout == {
        "xaxis": {"title": {"text": "b"}, "range": [0, 1], "nticks": 3},
        "height": 100,
        "yaxis": {"type": "log"},
        "shapes": [{"type": "line", "x0": 0}, {"type": "rect"}],
        "annotations": [{"text": "here"}],
    }


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 2), (3, 2)])
def test_a_grid_is_plotly_s(rows: int, columns: int) -> None:
    theirs = make_subplots(rows, columns, horizontal_spacing=0.05, vertical_spacing=0.1)
    axes = zip(theirs.select_xaxes(), theirs.select_yaxes(), strict=True)
    for (x, y), (their_x, their_y) in zip(grid(rows, columns, 0.05, 0.1), axes, strict=True):
        assert x == pytest.approx(their_x.domain) and y == pytest.approx(their_y.domain)
