"""Slices, interactions and parallel coordinates: bins and medians by hand, and figures that show them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaxbench.pages.theme import Look
from relaxbench.report import StudyFrames
from relaxbench.report.figures.interaction import ACROSS, UP, binned, interaction, scope_of
from relaxbench.report.figures.parallel_coordinates import MAX_LINES, parallel, places
from relaxbench.report.figures.search_space import Reference, loss_range, reference
from relaxbench.report.figures.settings import Scale, Tried, tried
from relaxbench.report.figures.slices import BINS, running_median, slices

PROBLEM = "digits-mlp"


@pytest.fixture(scope="module")
def look(digits: StudyFrames) -> Look:
    return Look.of({label: digits.method(label) for label in digits.methods}, digits.baseline)


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
    found = tried(digits, PROBLEM, "hj")
    scope = scope_of(found, "gamma")
    assert scope is not None
    range_, numbers = scope
    ends = found.numbers[["gamma_start", "gamma_end"]]
    assert np.allclose(np.log(numbers), np.log(ends).mean(axis=1))
    assert (range_.low, range_.high) == pytest.approx((1e-2, 10**1.5)) and range_.log
    assert scope_of(found, "sigma") is None and scope_of(tried(digits, PROBLEM, "sgd"), "gamma") is None
    alone = scope_of(Tried(found.ranges[:1], found.trials, found.numbers), "gamma")
    assert alone is not None and alone[0].name == "gamma_start" and (alone[1] == ends["gamma_start"]).all()


def test_the_map_shows_the_cells(digits: StudyFrames, look: Look) -> None:
    found = tried(digits, PROBLEM, "hj")
    figure = interaction(found, look, PROBLEM, "hj", "gamma")
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
    assert interaction(tried(digits, PROBLEM, "sgd"), look, PROBLEM, "sgd", "gamma") is None


def test_slices_have_a_panel_a_hyperparameter(digits: StudyFrames, look: Look) -> None:
    found = tried(digits, PROBLEM, "hj")
    figure = slices(found, look, PROBLEM, "hj", reference(digits, PROBLEM))
    assert figure is not None and figure.data is not None and len(figure.data) == 120
    panels = {trace["xaxis"] for trace in figure.figure.data}
    assert len(panels) == len(found.ranges) == 6
    for panel, searched in zip(sorted(panels), found.ranges, strict=True):
        own = [trace for trace in figure.figure.data if trace["xaxis"] == panel]
        *marks, line = own
        assert sum(len(trace["x"]) for trace in marks) == 120
        middle = running_median(found.numbers[searched.name].to_numpy(), found.trials["value"].to_numpy())
        assert np.allclose(line["x"], middle["number"]) and (line["y"] <= middle["median"] * (1 + 1e-6)).all()
        lost = sum(len(trace["x"]) for trace in marks if trace["marker"]["symbol"] == "triangle-up")
        assert lost >= found.trials["diverged"].sum() > 0


def test_lines_cross_the_axes_at_their_places(digits: StudyFrames, look: Look) -> None:
    found = tried(digits, PROBLEM, "hj")
    loss = loss_range(found.trials.loc[~found.trials["diverged"], "value"].to_numpy(), None)
    lines = places(found, loss)
    assert lines.shape == (120, 7) and ((lines >= 0) & (lines <= 1)).all()
    assert (lines[found.trials["diverged"], -1] == 1).all()
    lr = np.log(found.numbers["lr"] / 1e-3) / np.log(1e3)
    assert np.allclose(lines[:, 3], lr) and set(lines[:, 5]) == {0.0, 1.0}
    figure = parallel(found, look, PROBLEM, "hj", reference(digits, PROBLEM))
    assert figure is not None and figure.data is not None
    drawn = sum(int(np.isnan(trace["x"]).sum()) for trace in figure.figure.data)  # a gap behind every line
    assert drawn == len(figure.data) == 120 <= MAX_LINES and len(figure.figure.data) == 6
    won = figure.figure.data[-1]["x"].reshape(10, 8)[:, :-1]
    shown = places(found, loss_range(found.trials.loc[~found.trials["diverged"], "value"].to_numpy(),
                                     reference(digits, PROBLEM)))  # fmt: skip
    assert np.allclose(won, shown[found.trials["winner"]], atol=1e-6)


def test_the_baseline_s_interval_is_marked_although_it_reaches_below_zero(digits: StudyFrames, look: Look) -> None:
    found = tried(digits, PROBLEM, "hj")
    wide = Reference(mean=0.05, low=-0.3, high=0.4)  # the axis is logarithmic
    assert loss_range(found.trials.loc[~found.trials["diverged"], "value"].to_numpy(), wide).log
    figure = parallel(found, look, PROBLEM, "hj", wide)
    assert figure is not None
    band = next(shape for shape in figure.figure.layout["shapes"] if shape["type"] == "rect")
    assert band["x0"] == -0.02 and band["x1"] > 0


def test_nothing_is_drawn_where_every_trial_diverged(look: Look) -> None:
    rows = {"trial_id": [1, 2], "block": 0, "number": [0, 1], "value": 10.0, "diverged": True, "winner": False}
    lost = Tried([Scale.number("gamma_start", 1.0, 2.0), Scale.number("lr", 1.0, 2.0)], pd.DataFrame(rows),
                 pd.DataFrame({"gamma_start": [1.0, 2.0], "lr": [1.0, 2.0]}))  # fmt: skip
    assert slices(lost, look, PROBLEM, "hj", None) is parallel(lost, look, PROBLEM, "hj", None) is None
    assert interaction(lost, look, PROBLEM, "hj", "gamma") is None
