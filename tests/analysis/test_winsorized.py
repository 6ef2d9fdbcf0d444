"""A single run counts as at most three times its method's median, or three deviations above it."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import median_abs_deviation

from relaxbench.analysis.winsorized import winsorized

RUNS = st.lists(st.floats(-20, 20), min_size=1, max_size=40)


def test_a_disaster_of_a_steady_method_counts_as_three_times_its_median() -> None:
    errors = np.array([2.0, 2.1, 1.9, 2.2, 1.8, 2.0, 90.0])
    limited = np.exp(winsorized(np.log(errors)))
    assert np.allclose(limited[:-1], errors[:-1]) and np.isclose(limited[-1], 6.0)


def test_the_runs_of_a_method_that_spreads_widely_all_count() -> None:
    logs = np.random.default_rng(0).normal(0, 2, 2000)
    changed = winsorized(logs) < logs
    assert 0 < changed.mean() < 0.004  # 0.13 % of normal numbers are three deviations above the median
    bimodal = np.array([0.0] * 6 + [5.0] * 6)  # half of the runs are no rare disasters
    assert np.array_equal(winsorized(bimodal), bimodal)


def test_nothing_is_raised_and_nothing_good_is_limited() -> None:
    logs = np.log([2.0, 2.0, 2.0, 0.01, 2.0])
    assert np.array_equal(winsorized(logs), logs)


@given(RUNS, st.floats(-5, 5))
def test_it_is_the_limit_by_scipy_s_deviation_in_any_unit(runs: list[float], unit: float) -> None:
    values = np.array(runs)
    limit = np.median(values) + max(math.log(3), 3 * 1.4826 * median_abs_deviation(values))
    assert np.allclose(winsorized(values), np.minimum(values, limit))
    assert np.allclose(winsorized(values + unit), winsorized(values) + unit)


@given(RUNS, st.integers(0, 5))
def test_places_without_a_run_stay_empty_and_change_nothing(runs: list[float], empty: int) -> None:
    padded = np.array([*runs, *[math.nan] * empty]).reshape(1, -1)
    limited = winsorized(padded)
    assert np.array_equal(limited[0, : len(runs)], winsorized(runs)) and np.isnan(limited[0, len(runs) :]).all()
    assert np.isnan(winsorized([math.nan, math.nan])).all()
