"""How the intervals shrank: one mark per method and look."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from relaxbench.analysis.verdict_table import look_table
from relaxbench.analysis.verdicts import verdicts
from relaxbench.report import StudyFrames
from relaxbench.report.figures.looks import looks
from tests.analysis.known import SGD, shifted, study
from tests.report.figures.looks import DIGITS, look_of


def test_every_look_of_every_method_has_a_mark(digits: StudyFrames) -> None:
    results = verdicts(digits)
    figure, table = looks(results, look_of(digits), DIGITS), look_table(results)
    assert figure is not None and figure.data is not None and figure.data.equals(table)
    assert len(figure.figure.data) == len(table) > 5
    drawn = sorted(float(mark["x"][0]) for mark in figure.figure.data)
    assert drawn == pytest.approx(sorted(table["ratio"]), rel=1e-6)
    filled = [mark for mark in figure.figure.data if mark["marker"]["symbol"] == "circle"]
    assert len(filled) == 5  # one per method: the look that counts
    places = [float(mark["y"][0]) for mark in figure.figure.data]
    assert len(set(np.round(places, 6))) == len(places) and max(places) < 4.6


def test_a_method_without_a_claim_has_open_marks_alone(digits: StudyFrames) -> None:
    results, nan = verdicts(digits), float("nan")
    place = next(at for at, result in enumerate(results) if result.method == "hj")
    unclaimed = tuple(replace(each, low=nan, high=nan) for each in results[place].comparisons)
    results[place] = replace(results[place], comparisons=unclaimed)
    figure = looks(results, look_of(digits), DIGITS)
    assert figure is not None and "Methods without a claim have open marks alone." in figure.reading
    filled = {mark["name"] for mark in figure.figure.data if mark["marker"]["symbol"] == "circle"}
    assert len(filled) == 4 and "Hamilton–Jacobi" not in filled


def test_one_look_has_no_figure() -> None:
    frames = study({"sgd": SGD, "hj": shifted(-1)})
    assert looks(verdicts(frames), look_of(frames), DIGITS) is None
