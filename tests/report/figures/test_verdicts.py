"""The forest of ratios shows the comparisons with the baseline, whole and on a logarithmic axis."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from relaxbench.analysis.verdicts import verdicts
from relaxbench.report import StudyFrames
from relaxbench.report.figures.verdicts import COLUMNS, forest
from tests.report.figures.looks import DIGITS, look_of


def test_every_comparison_with_the_baseline_has_a_mark(digits: StudyFrames) -> None:
    results = verdicts(digits)
    figure = forest(results, look_of(digits), DIGITS)
    assert figure is not None and figure.data is not None
    comparisons = [comparison for result in results if (comparison := result.against("baseline"))]
    assert figure.data["method"].tolist() == [comparison.method for comparison in comparisons] and len(comparisons) == 5
    for mark, comparison in zip(figure.figure.data, reversed(comparisons), strict=True):
        ends = mark["x"][0] + np.array([-mark["error_x"]["arrayminus"][0], mark["error_x"]["array"][0]])
        assert ends == pytest.approx([comparison.low, comparison.high], rel=1e-5)
        assert mark["x"][0] == pytest.approx(comparison.ratio, rel=1e-6)
        assert f", {comparison.verdict}<extra>" in mark["hovertemplate"]
    for column in COLUMNS:
        assert figure.data[column].tolist() == [getattr(comparison, column) for comparison in comparisons]
    band, one = figure.figure.layout["shapes"]
    assert band["x0"] < 1 < band["x1"] and one["x0"] == one["x1"] == 1
    assert "margin of equivalence, ±0.5 points" in figure.reading


@pytest.mark.parametrize("verdict", ["equivalent", "undecided"])
def test_the_end_of_an_equivalent_methods_interval_is_explained(digits: StudyFrames, verdict: str) -> None:
    results = [
        replace(result, comparisons=tuple(replace(each, verdict=verdict) for each in result.comparisons))  # type: ignore[arg-type]
        for result in verdicts(digits)
    ]
    figure = forest(results, look_of(digits), DIGITS)
    assert figure is not None
    assert ("The interval of an equivalent method ends at the band." in figure.reading) is (verdict == "equivalent")


def test_every_interval_lies_inside_the_axis(digits: StudyFrames) -> None:
    """Also of a method that is a thousand times worse than the others."""
    results = verdicts(digits)
    comparison = results[-1].comparisons[0]
    far = replace(results[-1], comparisons=(replace(comparison, ratio=1500.0, low=900.0, high=2500.0),))
    for shown in (results, [*results[:-1], far]):
        figure = forest(shown, look_of(digits), DIGITS)
        assert figure is not None
        axis = figure.figure.layout["xaxis"]
        left, right = 10 ** np.array(axis["range"])
        known = [each for result in shown if (each := result.against("baseline"))]
        assert axis["type"] == "log" and all(left < each.low < each.high < right for each in known)
        assert sum(left <= tick <= right for tick in axis["tickvals"]) >= 3


def test_controls_are_diamonds(digits: StudyFrames) -> None:
    figure = forest(verdicts(digits), look_of(digits), DIGITS)
    assert figure is not None
    symbols = {mark["name"]: mark["marker"]["symbol"] for mark in figure.figure.data}
    assert {name for name, symbol in symbols.items() if symbol == "diamond"} == {"Lookahead", "SGD-EMA"}


def test_nothing_is_drawn_without_a_comparison(digits: StudyFrames) -> None:
    baseline = [result for result in verdicts(digits) if result.verdict == "baseline"]
    assert forest(baseline, look_of(digits), DIGITS) is None and np.isfinite(baseline[0].level)
