"""Params as numbers and places on the searched scales; the trials and the axes of figures."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from relaxbench.report import StudyFrames
from relaxbench.report.figures.search_space import MAX_TICKS, Scale, explore_trials, order, reference, thinned
from relaxbench.space import Choice, Float
from tests.report.figures.looks import DIGITS

positive = st.floats(1e-9, 1e9)
place = st.floats(0, 1)


@given(low=positive, factor=st.floats(1.01, 1e9), at=place)
def test_log_places_round_trip(low: float, factor: float, at: float) -> None:
    range_ = Scale.number("lr", low, low * factor, log=True)
    number = range_.at(np.array([at]))
    assert range_.places(number)[0] == pytest.approx(at, abs=1e-6)
    assert math.log(number[0]) == pytest.approx(math.log(low) + at * math.log(factor), abs=1e-6)


def test_on_a_log_scale_what_is_not_positive_lies_infinitely_far_below() -> None:
    """An interval of a mean may reach below 0, though no loss does."""
    places = Scale.number("validation loss", 0.1, 10.0, log=True).places(np.array([-0.5, 0.0, 0.1, 1.0, np.nan]))
    assert places == pytest.approx([-np.inf, -np.inf, 0, 0.5, np.nan], nan_ok=True)


@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-3, 1e6), at=place)
def test_linear_places_round_trip(low: float, width: float, at: float) -> None:
    range_ = Scale.number("momentum", low, low + width)
    number = range_.at(np.array([at]))
    assert number[0] == pytest.approx(low + at * width, rel=1e-6, abs=1e-6)
    assert range_.places(number)[0] == pytest.approx(at, abs=1e-4)


def test_choices_are_numbered_and_a_missing_setting_is_none() -> None:
    range_ = Scale("schedule", Choice(("constant", "3", "True"), "constant"))
    assert range_.numbers(["constant", 3, True, "gone"]) == pytest.approx([0, 1, 2, np.nan], nan_ok=True)
    assert (range_.low, range_.high) == (0, 2) and range_.places(np.array([0.0, 2.0])).tolist() == [0, 1]
    assert Scale("x", Float(0.0, 1.0, 0.0, log=True)).log is False  # no log of 0
    assert Scale.number("x", 2.0, 2.0).places(np.array([2.0])).tolist() == [0.5]


@given(low=positive, factor=st.floats(1, 1e9), log=st.booleans())
def test_axes_hold_their_range_and_few_ticks(low: float, factor: float, log: bool) -> None:
    range_ = Scale.number("lr", low, low * factor, log=log)
    axis = range_.axis("lr")
    ends = [10**end for end in axis["range"]] if axis["type"] == "log" else axis["range"]
    assert ends[0] < range_.low and range_.high < ends[1]
    if axis["tickmode"] == "array":
        assert 2 <= len(axis["tickvals"]) == len(axis["ticktext"]) <= MAX_TICKS
        assert all(range_.low <= tick <= range_.high for tick in axis["tickvals"])
    else:
        assert axis["nticks"] == MAX_TICKS


@given(count=st.integers(1, 5000), most=st.integers(2, 400))
def test_thinning_keeps_both_ends_and_is_even(count: int, most: int) -> None:
    kept = thinned(count, most)
    assert len(kept) == min(count, most) and kept[0] == 0 and kept[-1] == count - 1
    gaps = np.diff(kept)
    assert not len(gaps) or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)


def test_explore_trials_have_their_params_as_numbers(digits: StudyFrames) -> None:
    found = explore_trials(digits, "digits-mlp", "hj")
    trials = digits.trials.set_index("id")
    assert found.trials["value"].is_monotonic_increasing and len(found.trials) == 120
    assert found.trials["winner"].sum() == 10
    names = [each.name for each in found.scales]
    assert names == ["gamma_start", "gamma_end", "inner_steps", "lr", "momentum", "schedule"]
    assert [order(name) for name in names] == [0, 0, 1, 2, 3, 3]
    for row, settings in zip(found.trials.itertuples(), found.numbers.to_dict("records"), strict=True):
        params = trials.loc[row.trial_id, "params"]
        assert settings["lr"] == params["lr"]
        assert ("constant", "cosine")[int(settings["schedule"])] == params["schedule"]
    table = found.table(np.array([5, 0]))
    assert table["schedule"].tolist() == [trials.loc[run, "params"]["schedule"] for run in table["trial_id"]]
    assert table["trial_id"].tolist() == found.trials["trial_id"].iloc[[5, 0]].tolist()


def test_one_loss_of_zero_makes_no_arithmetic_mean_of_the_baselines_level(digits: StudyFrames) -> None:
    blocks = digits.blocks.copy()
    own = blocks.index[(blocks["method"] == "sgd") & blocks["value"].notna()]
    blocks.loc[own, "value"] = np.geomspace(1e-6, 1e-2, len(own))
    blocks.loc[own[0], "value"] = 0.0
    found = reference(replace(digits, blocks=blocks), DIGITS)
    losses = blocks.loc[own, "value"].to_numpy()
    others = blocks.loc[blocks["value"] > 0, "value"]
    assert found is not None
    assert found.level == pytest.approx(stats.gmean(np.maximum(losses, others.min())))
    assert found.level < losses.mean() / 10


def test_negative_losses_have_a_mean(digits: StudyFrames) -> None:
    blocks = digits.blocks.assign(value=digits.blocks["value"] - 100)
    found = reference(replace(digits, blocks=blocks), DIGITS)
    own = blocks.loc[blocks["method"] == "sgd", "value"].dropna()
    low, high = stats.ttest_1samp(own, 0).confidence_interval(0.95)
    assert found is not None
    assert [found.level, found.low, found.high] == pytest.approx([own.mean(), low, high])


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (10.0, 10_000.0, ["10", "1,000"]),  # all four have 15 letters
        (0.001, 1.0, ["0.001", "0.01", "0.1", "1"]),
        (1e-9, 1.0, ["10⁻⁹", "10⁻⁶", "0.001", "1"]),
        (3000.0, 40_000.0, ["5,000", "20,000"]),
    ],
)
def test_ticks_fit_beside_each_other_on_a_narrow_axis(low: float, high: float, texts: list[str]) -> None:
    assert Scale.number("x", low, high, log=True).axis("x")["ticktext"] == texts
