"""The forest of differences shows the comparisons with the baseline."""

from __future__ import annotations

import numpy as np
import pytest

from relaxbench.analysis.verdicts import verdicts
from relaxbench.report import StudyFrames
from relaxbench.report.figures.verdicts import forest
from tests.report.figures.looks import DIGITS, look_of


def test_every_comparison_with_the_baseline_has_a_mark(digits: StudyFrames) -> None:
    results = verdicts(digits)
    figure = forest(results, look_of(digits), DIGITS)
    assert figure is not None and figure.data is not None
    comparisons = [comparison for result in results if (comparison := result.against("baseline"))]
    assert figure.data["method"].tolist() == [comparison.method for comparison in comparisons] and len(comparisons) == 5
    for mark, comparison in zip(figure.figure.data, reversed(comparisons), strict=True):
        numbers = [mark["x"][0], mark["error_x"]["array"][0]]
        assert numbers == pytest.approx([comparison.difference, comparison.high - comparison.difference], rel=1e-6)
        assert f", {comparison.verdict}<extra>" in mark["hovertemplate"]
    for column in ("difference", "low", "high", "p", "p_holm", "verdict"):
        assert figure.data[column].tolist() == [getattr(comparison, column) for comparison in comparisons]
    band, zero = figure.figure.layout["shapes"]
    assert (band["x0"], band["x1"]) == (-0.5, 0.5) and zero["x0"] == zero["x1"] == 0
    assert "margin of equivalence" in figure.reading


def test_controls_are_diamonds(digits: StudyFrames) -> None:
    figure = forest(verdicts(digits), look_of(digits), DIGITS)
    assert figure is not None
    symbols = {mark["name"]: mark["marker"]["symbol"] for mark in figure.figure.data}
    assert {name for name, symbol in symbols.items() if symbol == "diamond"} == {"Lookahead", "SGD-EMA"}


def test_nothing_is_drawn_without_a_comparison(digits: StudyFrames) -> None:
    baseline = [result for result in verdicts(digits) if result.verdict == "baseline"]
    assert forest(baseline, look_of(digits), DIGITS) is None and np.isfinite(baseline[0].mean)
