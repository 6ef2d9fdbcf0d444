"""The figure of every block shows all results and their means."""

from __future__ import annotations

import numpy as np
import pytest

from relaxbench.analysis.verdicts import verdicts
from relaxbench.report import StudyFrames
from relaxbench.report.figures.blocks import dots, results
from tests.report.figures.looks import DIGITS, look_of


def levels(frames: StudyFrames) -> dict[str, float]:
    return {result.method: result.level for result in verdicts(frames)}


def test_every_block_has_a_mark_and_every_method_its_level(digits: StudyFrames) -> None:
    values = results(digits, DIGITS)
    known = levels(digits)
    figure = dots(values, known, look_of(digits), DIGITS, digits.problem(DIGITS))
    assert figure is not None and figure.figure.layout["xaxis"]["title"]["text"] == "test error (%)"
    marks, centres = figure.figure.data[::2], figure.figure.data[1::2]
    assert figure.figure.layout["yaxis"]["ticktext"] == [mark["name"] for mark in marks]
    for method, mark, centre in zip(digits.methods[::-1], marks, centres, strict=True):
        own = values.loc[values["method"] == method, "value"].dropna()
        assert np.sort(mark["customdata"]) == pytest.approx(np.sort(own), rel=1e-6)
        assert centre["x"][0] == pytest.approx(known[method], rel=1e-6) and "error_x" not in centre
    assert "Diamonds are geometric means of the best of a block's number of trials" in figure.reading
    other = dots(values, known, look_of(digits), DIGITS, digits.problem(DIGITS), set(digits.methods))
    assert other is not None and "Diamonds are geometric means of the dots" in other.reading
    assert "best of" not in other.reading
    mixed = dots(values, known, look_of(digits), DIGITS, digits.problem(DIGITS), {"hj"})
    assert (
        mixed is not None and "for Hamilton–Jacobi of the dots" in mixed.reading and "for the others" in mixed.reading
    )
    (line,) = figure.figure.layout["shapes"]
    assert line["x0"] == line["x1"] == known["sgd"]


def test_a_block_beyond_the_axis_is_a_triangle_at_its_edge(digits: StudyFrames) -> None:
    values = results(digits, DIGITS)
    values.loc[values["method"] == "hj", "value"] = 900.0
    figure = dots(values, levels(digits) | {"hj": 900.0}, look_of(digits), DIGITS, digits.problem(DIGITS))
    assert figure is not None
    left, right = figure.figure.layout["xaxis"]["range"]
    beyond = next(trace for trace in figure.figure.data if trace["name"] == "Hamilton–Jacobi")
    assert set(beyond["marker"]["symbol"]) == {"triangle-right"} and (left < beyond["x"]).all()
    assert (beyond["x"] < right).all() and [note["text"] for note in figure.figure.layout["annotations"]] == ["900 →"]


def test_a_few_disasters_of_every_method_do_not_flatten_the_other_blocks(digits: StudyFrames) -> None:
    usual = results(digits, DIGITS)
    figure = dots(usual, levels(digits), look_of(digits), DIGITS, digits.problem(DIGITS))
    values = usual.copy()
    values.loc[values.groupby("method").head(1).index, "value"] = 900.0
    other = dots(values, levels(digits), look_of(digits), DIGITS, digits.problem(DIGITS))
    assert figure is not None and other is not None
    right = other.figure.layout["xaxis"]["range"][1]
    assert right <= 2 * figure.figure.layout["xaxis"]["range"][1]
    symbols = [list(trace["marker"]["symbol"]) for trace in other.figure.data[::2]]
    assert [row.count("triangle-right") for row in symbols] == [1] * len(digits.methods)


def test_a_censored_metric_is_drawn_up_to_the_budget_whatever_most_runs_do(digits: StudyFrames) -> None:
    values = results(digits, DIGITS).assign(value=2000.0)
    values.loc[(values["method"] == "hj") & (values["block"] < 3), "value"] = [50.0, 60.0, 70.0]
    levels = dict.fromkeys(digits.methods, 2000.0) | {"hj": 700.0}
    about = {**digits.problem(DIGITS), "censored": True}
    figure = dots(values, levels, look_of(digits), DIGITS, about)  # type: ignore[arg-type]
    assert figure is not None and "annotations" not in figure.figure.layout
    left, right = figure.figure.layout["xaxis"]["range"]
    assert left < 50 and right > 2000
    assert all(set(trace["marker"]["symbol"]) <= {"circle", "diamond"} for trace in figure.figure.data[::2])


def test_the_baseline_is_never_beyond_the_axis(digits: StudyFrames) -> None:
    values, known = results(digits, DIGITS), levels(digits)
    figure = dots(values, known | {"sgd": 50.0}, look_of(digits), DIGITS, digits.problem(DIGITS))
    assert figure is not None and figure.figure.layout["xaxis"]["range"][1] > 50


def test_nothing_is_drawn_without_blocks(digits: StudyFrames) -> None:
    values = results(digits, "another")
    assert dots(values, {}, look_of(digits), "another", digits.problem("another")) is None


def test_a_block_whose_winner_was_not_run_again_has_no_dot_and_the_reader_is_told(digits: StudyFrames) -> None:
    values, methods = results(digits, DIGITS).dropna(subset="value"), len(digits.methods)
    first = dots(values, levels(digits), look_of(digits), DIGITS, digits.problem(DIGITS))
    lost = values.copy()
    lost.loc[lost.groupby("method").head(1).index, "value"] = np.nan
    other = dots(lost, levels(digits), look_of(digits), DIGITS, digits.problem(DIGITS))
    assert first is not None and other is not None and other.data is not None
    assert "no dot" not in first.reading
    assert other.reading.endswith(f" {methods} blocks have no dot: the winner was not run again.")
    marks = sum(len(trace["x"]) for trace in other.figure.data[::2])
    assert marks == len(values) - methods and len(other.data) == len(values)
