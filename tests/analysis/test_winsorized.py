"""A rare disaster counts as three times its method's median, or as four mean deviations above it."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaxbench.analysis.arm import disjoint_blocks
from relaxbench.analysis.jackknife import best_of_random
from relaxbench.analysis.winsorized import winsorized

RUNS = st.lists(st.floats(-20, 20), min_size=1, max_size=40)


def limit(runs: list[float]) -> float:
    middle = statistics.median(runs)
    return middle + max(math.log(3), 4 * statistics.fmean(abs(run - middle) for run in runs))


def test_a_disaster_of_a_steady_method_counts_as_three_times_its_median() -> None:
    errors = np.array([*[2.0, 2.1, 1.9, 2.2, 1.8] * 8, 90.0])
    limited = np.exp(winsorized(np.log(errors)))
    assert np.allclose(limited[:-1], errors[:-1]) and np.isclose(limited[-1], 6.0)


@pytest.mark.parametrize(("failures", "counted"), [(1, 1.4), (2, 2.8), (4, 5.6), (5, 7.0), (9, 7.0), (12, 7.0)])
def test_failures_count_the_more_the_more_frequent_they_are(failures: int, counted: float) -> None:
    """Of 20 runs; from one in four on in full."""
    runs = np.array([0.0] * (20 - failures) + [7.0] * failures)
    assert winsorized(runs).max() == pytest.approx(counted)


def test_the_runs_of_a_method_that_spreads_widely_all_count() -> None:
    logs = np.random.default_rng(0).normal(0, 2, 20_000)
    changed = winsorized(logs) < logs
    assert 0 < changed.mean() < 0.0014  # 0.07 % of normal numbers are 4 mean deviations above the median


def test_nothing_is_raised_and_nothing_good_is_limited() -> None:
    logs = np.log([2.0, 2.0, 2.0, 0.01, 2.0])
    assert np.array_equal(winsorized(logs), logs)


@given(RUNS, st.floats(-5, 5))
def test_it_is_the_limit_in_plain_python_in_any_unit(runs: list[float], unit: float) -> None:
    values = np.array(runs)
    assert np.allclose(winsorized(values), np.minimum(values, limit(runs)))
    assert np.allclose(winsorized(values + unit), winsorized(values) + unit)


@given(RUNS, st.integers(0, 5))
def test_places_without_a_run_stay_empty_and_change_nothing(runs: list[float], empty: int) -> None:
    padded = np.array([[*runs, *[math.nan] * empty], [math.nan] * (len(runs) + empty)])
    limited = winsorized(padded)
    assert np.allclose(limited[0, : len(runs)], winsorized(runs)) and np.isnan(limited[0, len(runs) :]).all()
    assert np.isnan(limited[1]).all()


def test_the_jackknife_estimates_the_limit_anew_without_each_block() -> None:
    rng = np.random.default_rng(4)
    values, logs = rng.random((9, 6)), rng.normal(0, 0.3, (9, 6)) + 3 * (rng.random((9, 6)) < 0.1)
    arm, blocks = best_of_random(values, logs, 54, in_full=False), range(9)

    def estimate(kept: list[int]) -> float:
        """The mean over ranks; all trials are confirmed, so that its weights are those of the definition."""
        runs = sorted(zip(values[kept].ravel(), logs[kept].ravel(), strict=True))
        most = limit([run for _, run in runs])
        count = len(runs)
        weights = [math.comb(count - rank, 5) / math.comb(count, 6) for rank in range(1, count + 1)]
        return sum(weight * min(run, most) for weight, (_, run) in zip(weights, runs, strict=True))

    whole = estimate(list(blocks))
    pseudo = [9 * whole - 8 * estimate([other for other in blocks if other != block]) for block in blocks]
    assert arm.estimate == pytest.approx(whole)
    assert arm.variance == pytest.approx(statistics.variance(pseudo) / 9)
    assert arm.estimate < best_of_random(values, logs, 54).estimate


def test_a_published_arm_limits_its_disasters_too() -> None:
    runs = [0.1, -0.2, 0.0, 0.3, -0.1, 0.2, 0.0, 4.0]
    arm = disjoint_blocks(np.array(runs), in_full=False)

    def mean(kept: list[float]) -> float:
        return statistics.fmean(min(run, limit(kept)) for run in kept)

    pseudo = [8 * mean(runs) - 7 * mean(runs[:block] + runs[block + 1 :]) for block in range(8)]
    assert arm.estimate == pytest.approx(mean(runs))
    assert arm.variance == pytest.approx(statistics.variance(pseudo) / 8)
    steady = disjoint_blocks(np.array(runs[:7]), in_full=False)
    assert steady.estimate == pytest.approx(statistics.fmean(runs[:7]))
    assert steady.variance == pytest.approx(statistics.variance(runs[:7]) / 7)
    one = disjoint_blocks(np.array([2.0]), in_full=False)
    assert one.estimate == 2 and np.isnan(one.variance)
