"""The axis of ratios: it holds everything, and has a few round ticks that do not overlap."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaxbench.report.figures.ratios import MOST_TICKS, ratio_axis, reference_shapes, span, whiskers


@given(st.floats(-4, 4), st.floats(-4, 4))
def test_the_axis_holds_every_value_and_one_and_has_ticks(first: float, second: float) -> None:
    values = [10.0**first, 10.0**second, math.nan, 0.0, math.inf]
    low, high = span(values)
    axis = ratio_axis(low, high)
    ends = 10 ** np.array(axis["range"])
    assert ends[0] < min(values[0], values[1], 1.0) and max(values[0], values[1], 1.0) < ends[1]
    inside = [tick for tick in axis["tickvals"] if ends[0] <= tick <= ends[1]]
    assert 2 <= len(inside) <= max(MOST_TICKS, 9) and inside == sorted(inside)


@pytest.mark.parametrize(("low", "high"), [(0.12, 1.8), (0.9, 1.1), (0.3, 2.0), (0.05, 1.5)])
def test_ticks_lie_apart(low: float, high: float) -> None:
    places = np.log10(ratio_axis(low, high)["tickvals"]) / math.log10(high / low)
    assert (np.diff(places) > 0.08).all() and 1 in ratio_axis(low, high)["tickvals"]


def test_shapes_and_whiskers() -> None:
    (line,) = reference_shapes(None)
    assert line["x0"] == line["x1"] == 1
    box, _ = reference_shapes((0.9, 1.1), along="y")
    assert (box["y0"], box["y1"], box["xref"]) == (0.9, 1.1, "paper")
    assert whiskers(1.0, math.nan, 2.0, "#000") == {}
    ends = whiskers(1.0, 0.5, 3.0, "#000")
    assert [ends["arrayminus"][0], ends["array"][0]] == [0.5, 2.0]


def test_a_band_that_begins_at_0_has_an_end_that_a_logarithmic_axis_can_draw() -> None:
    _, band = sorted(reference_shapes((0.0, 1.5)), key=lambda shape: shape["type"])
    low, high = span([0.7, 1.2, 0.0, 1.5])
    assert band["type"] == "rect" and 0 < band["x0"] < low < 0.7 and band["x1"] == 1.5 < high
