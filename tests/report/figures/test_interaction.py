"""Interactions: cells by hand, and the map that shows them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaxbench.pages.theme import Look
from relaxbench.report import StudyFrames
from relaxbench.report.figures.interaction import ACROSS, UP, binned, interaction, scope_of
from relaxbench.report.figures.search_space import Exploration, explore_trials
from tests.report.figures.looks import DIGITS, diverged, look_of


@pytest.fixture(scope="module")
def look(digits: StudyFrames) -> Look:
    return look_of(digits)


@given(st.integers(1, 200), st.integers(0, 5))
def test_cells_by_a_loop(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y, values = rng.random(count), rng.random(count), rng.random(count)
    x[0], y[0] = 1.0, 0.0  # an edge belongs to a cell, too
    cells: dict[tuple[int, int], list[float]] = {}
    for a, b, value in zip(x, y, values, strict=True):
        cells.setdefault((min(int(a * ACROSS), ACROSS - 1), min(int(b * UP), UP - 1)), []).append(value)
    found = binned(np.append(x, np.nan), np.append(y, 0.5), np.append(values, 9.0))
    assert found["trials"].sum() == count
    for row in found.itertuples():
        assert row.median == np.median(cells[row.across, row.up]) and row.trials == len(cells[row.across, row.up])


def test_scope_is_the_geometric_mean_of_its_ends(digits: StudyFrames) -> None:
    found = explore_trials(digits, DIGITS, "hj")
    scope = scope_of(found, "gamma")
    assert scope is not None
    range_, numbers = scope
    ends = found.numbers[["gamma_start", "gamma_end"]]
    assert np.allclose(np.log(numbers), np.log(ends).mean(axis=1))
    assert (range_.low, range_.high) == pytest.approx((1e-2, 10**1.5)) and range_.log
    assert scope_of(found, "sigma") is None and scope_of(explore_trials(digits, DIGITS, "sgd"), "gamma") is None
    alone = scope_of(Exploration(found.scales[:1], found.trials, found.numbers), "gamma")
    assert alone is not None and alone[0].name == "gamma_start" and (alone[1] == ends["gamma_start"]).all()


def test_the_map_shows_the_cells(digits: StudyFrames, look: Look) -> None:
    found = explore_trials(digits, DIGITS, "hj")
    figure = interaction(found, look, DIGITS, "hj", "gamma")
    assert figure is not None and list(figure.views) == ["inner_steps", "lr"] and figure.data is not None
    assert figure.data.groupby("other")["trials"].sum().tolist() == [120, 120]
    scope = scope_of(found, "gamma")
    assert scope is not None
    for row in figure.data.itertuples():
        other = found.numbers[row.other].to_numpy()
        top = row.other_high >= other.max()  # the last cell has both its edges
        inside = (scope[1] >= row.gamma_low) & (scope[1] < row.gamma_high)
        inside &= (other >= row.other_low) & ((other < row.other_high) | top)
        assert inside.sum() == row.trials
        assert np.median(found.trials["value"][inside]) == pytest.approx(row.median)
    assert interaction(explore_trials(digits, DIGITS, "sgd"), look, DIGITS, "sgd", "gamma") is None


def test_nothing_is_drawn_where_every_trial_diverged(look: Look) -> None:
    assert interaction(diverged(), look, DIGITS, "hj", "gamma") is None
