"""Slices: running medians by hand, and the figure that shows them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaxbench.pages.theme import Look
from relaxbench.report import StudyFrames
from relaxbench.report.figures.search_space import explore_trials, reference
from relaxbench.report.figures.slices import BINS, running_median, slices
from tests.report.figures.looks import DIGITS, diverged, look_of


@pytest.fixture(scope="module")
def look(digits: StudyFrames) -> Look:
    return look_of(digits)


def test_running_median_by_hand() -> None:
    numbers = np.array([3.0, 1.0, np.nan, 1.0, 3.0, 3.0, 2.0])
    found = running_median(numbers, np.array([9.0, 4.0, 99.0, 2.0, 5.0, 7.0, 1.0]))
    assert found.to_numpy().tolist() == [[1, 3, 2], [2, 1, 1], [3, 7, 3]]


@given(st.integers(BINS + 1, 300), st.integers(0, 5))
def test_bins_hold_equally_many_trials_each(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    numbers, values = rng.permutation(count).astype(float), rng.random(count)
    found = running_median(numbers, values)
    assert len(found) == BINS and found["trials"].sum() == count and np.ptp(found["trials"]) <= 1
    first = numbers < found["trials"].iloc[0]  # the numbers are ranks
    assert found.iloc[0].tolist() == [np.median(numbers[first]), np.median(values[first]), first.sum()]


def test_slices_have_a_panel_a_hyperparameter(digits: StudyFrames, look: Look) -> None:
    found = explore_trials(digits, DIGITS, "hj")
    figure = slices(found, look, DIGITS, "hj", reference(digits, DIGITS))
    assert figure is not None and figure.data is not None and len(figure.data) == 120
    panels = {trace["xaxis"] for trace in figure.figure.data}
    assert len(panels) == len(found.scales) == 6
    for panel, searched in zip(sorted(panels), found.scales, strict=True):
        own = [trace for trace in figure.figure.data if trace["xaxis"] == panel]
        *marks, line = own
        assert sum(len(trace["x"]) for trace in marks) == 120
        middle = running_median(found.numbers[searched.name].to_numpy(), found.trials["value"].to_numpy())
        assert np.allclose(line["x"], middle["number"]) and (line["y"] <= middle["median"] * (1 + 1e-6)).all()
        lost = sum(len(trace["x"]) for trace in marks if trace["marker"]["symbol"] == "triangle-up")
        assert lost >= found.trials["diverged"].sum() > 0


def test_nothing_is_drawn_where_every_trial_diverged(look: Look) -> None:
    assert slices(diverged(), look, DIGITS, "hj", None) is None
