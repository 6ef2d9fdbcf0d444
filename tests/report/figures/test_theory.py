"""The theory's numbers reach the page, beside what a study measured and only where the theory knows the landscape."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from relaxbench.analysis.findings import Findings
from relaxbench.analysis.theory_numbers import Theorem
from relaxbench.pages.theme import Look
from relaxbench.report import StudyFrames, write_report
from relaxbench.report.figures.theory import expectation, measured
from relaxbench.theory.summary import theorems
from tests.report.test_study_page import Page

KNOWN = Theorem("two wells", "f", True, (0.4, 0.01), (0.2, 0.02), (0.3, 0.03), 1.5, 1.2, 500)


def test_a_theorem_is_found_for_landscapes_alone() -> None:
    found = theorems(["digits-mlp", "quadratic", "no such"], particles=2000)
    assert theorems(["quadratic"], 2000)["quadratic"] is found["quadratic"]  # computed once in a process
    assert list(found) == ["quadratic"]
    parabola = found["quadratic"]
    assert (parabola.terminal, parabola.is_loss, parabola.particles) == ("x²", False, 2000)
    # An Ornstein–Uhlenbeck process from 1, dx = −0.8 x dt + β^(−1/2) dW, has this second moment at T.
    shrunk = math.exp(-2 * 0.8 * parabola.seconds)
    exact = shrunk + (1 - shrunk) / (2 * 0.8 * parabola.beta)
    mean, half = parabola.plain
    assert abs(mean - exact) < 2 * half + 0.002  # about four standard errors, and the bias of the time step
    assert parabola.controlled[0] < parabola.bound[0] < mean


def test_measured_means_and_intervals(digits: StudyFrames) -> None:
    table = measured(digits, "digits-mlp").set_index("method")
    for method in digits.methods:
        values = digits.blocks.loc[digits.blocks["method"] == method, "value"].dropna()
        low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
        row = table.loc[method]
        assert [row["mean"], row["half"], row["runs"]] == pytest.approx([values.mean(), (high - low) / 2, len(values)])


@pytest.mark.parametrize("is_loss", [True, False])
def test_the_figure_shows_both_where_they_are_the_same_thing(digits: StudyFrames, is_loss: bool) -> None:
    look = Look.of({label: digits.method(label) for label in digits.methods}, digits.baseline)
    theorem = Theorem("two wells", "f", is_loss, (0.4, 0.01), (0.2, 0.02), (0.3, 0.03), 1.5, 1.2, 500)
    table = measured(digits, "digits-mlp")
    figure = expectation(theorem, table, look, "digits-mlp")
    assert figure.data is not None and figure.data["mean"].tolist()[:3] == [0.4, 0.3, 0.2]
    assert figure.data["half"].tolist()[:3] == [0.01, 0.03, 0.02]
    assert len(figure.data) == (3 + 6 if is_loss else 3)
    drawn = [(float(trace["x"][0]), trace["error_x"]["array"][0]) for trace in figure.figure.data][::-1]
    assert np.allclose(drawn, figure.data[["mean", "half"]])
    assert ("are not comparable with it" in figure.reading) != is_loss


def test_its_numbers_reach_the_page(digits: StudyFrames, tmp_path: Path) -> None:
    page = Page(write_report(Findings.of(digits), tmp_path, {"digits-mlp": KNOWN}).read_text())
    figures = {figure["key"]: figure["figure"] for figure in page.figures}
    names = [trace["name"] for trace in figures["theory-digits-mlp"]["data"]]
    assert names[-3:] == ["theory: controlled, E V", "theory: bound", "theory: SGD, E V"]
    assert "(β = 1.5, T = 1.2) by 500 particles" in page.text and "E V(x) of the uncontrolled process" in page.text


def test_without_a_theorem_the_page_has_no_theory(digits_page: Path) -> None:
    page = Page(digits_page.read_text())
    assert not any(figure["key"].startswith("theory") for figure in page.figures)
    assert "theory" not in {value for _, key, value in page.attributes if key == "id"}
    assert not re.search(r"Theory expectation", page.text)
