"""Parallel coordinates: places on the axes by hand, and the figure that shows them."""

from __future__ import annotations

import numpy as np
import pytest

from relaxbench.pages.theme import Look
from relaxbench.report import StudyFrames
from relaxbench.report.figures.parallel_coordinates import MAX_LINES, parallel, places
from relaxbench.report.figures.search_space import Reference, explore_trials, loss_scale, reference
from tests.report.figures.looks import DIGITS, diverged, look_of


@pytest.fixture(scope="module")
def look(digits: StudyFrames) -> Look:
    return look_of(digits)


def test_lines_cross_the_axes_at_their_places(digits: StudyFrames, look: Look) -> None:
    found = explore_trials(digits, DIGITS, "hj")
    loss = loss_scale(found.trials.loc[~found.trials["diverged"], "value"].to_numpy(), None)
    lines = places(found, loss)
    assert lines.shape == (120, 7) and ((lines >= 0) & (lines <= 1)).all()
    assert (lines[found.trials["diverged"], -1] == 1).all()
    lr = np.log(found.numbers["lr"] / 1e-3) / np.log(1e3)
    assert np.allclose(lines[:, 3], lr) and set(lines[:, 5]) == {0.0, 1.0}
    figure = parallel(found, look, DIGITS, "hj", reference(digits, DIGITS))
    assert figure is not None and figure.data is not None
    drawn = sum(int(np.isnan(trace["x"]).sum()) for trace in figure.figure.data)  # a gap behind every line
    assert drawn == len(figure.data) == 120 <= MAX_LINES and len(figure.figure.data) == 6
    won = figure.figure.data[-1]["x"].reshape(10, 8)[:, :-1]
    shown = places(
        found, loss_scale(found.trials.loc[~found.trials["diverged"], "value"].to_numpy(), reference(digits, DIGITS))
    )
    assert np.allclose(won, shown[found.trials["winner"]], atol=1e-6)


def test_the_baseline_s_interval_is_marked_although_it_reaches_below_zero(digits: StudyFrames, look: Look) -> None:
    found = explore_trials(digits, DIGITS, "hj")
    wide = Reference(level=0.05, low=-0.3, high=0.4)  # the axis is logarithmic
    assert loss_scale(found.trials.loc[~found.trials["diverged"], "value"].to_numpy(), wide).log
    figure = parallel(found, look, DIGITS, "hj", wide)
    assert figure is not None
    band = next(shape for shape in figure.figure.layout["shapes"] if shape["type"] == "rect")
    assert band["x0"] == -0.02 and band["x1"] > 0


def test_nothing_is_drawn_where_every_trial_diverged(look: Look) -> None:
    assert parallel(diverged(), look, DIGITS, "hj", None) is None
