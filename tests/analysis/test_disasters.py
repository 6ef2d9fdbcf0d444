"""Rare disasters and their bound."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from relaxbench.analysis.disasters import disaster_limit, disasters, rate_bound


@pytest.mark.parametrize(("count", "runs"), [(0, 10), (1, 10), (3, 40), (39, 40), (40, 40)])
def test_the_bound_agrees_with_scipy(count: int, runs: int) -> None:
    known = stats.binomtest(count, runs, alternative="less").proportion_ci(0.95, method="exact").high
    assert rate_bound(count, runs) == pytest.approx(known, rel=1e-9)
    if count < runs:
        assert stats.binom.cdf(count, runs, rate_bound(count, runs)) == pytest.approx(0.05)


def test_none_in_ten_allows_a_rate_of_26_percent() -> None:
    assert rate_bound(0, 10) == pytest.approx(1 - 0.05**0.1) == pytest.approx(0.259, abs=1e-3)


def test_more_disasters_and_fewer_runs_raise_the_bound() -> None:
    assert rate_bound(0, 20) < rate_bound(0, 10) < rate_bound(1, 10) < rate_bound(10, 10) == 1


@pytest.mark.parametrize("share", [0.02, 0.2, 0.7])
def test_the_bound_holds_in_95_percent(share: float) -> None:
    runs = 40
    chance = stats.binom.pmf(np.arange(runs + 1), runs, share)
    held = [rate_bound(count, runs) >= share for count in range(runs + 1)]
    assert chance[held].sum() >= 0.95


def test_runs_above_three_times_the_median_are_counted() -> None:
    limit = disaster_limit([2.0, 3.0, 1.0])
    found = disasters([1.0, 6.0, 6.1, np.nan, 90.0], limit)
    assert limit == 6
    assert (found.count, found.runs, found.share) == (2, 4, 0.5)
    assert found.bound == rate_bound(2, 4)


def test_a_baseline_without_errors_has_a_limit_all_the_same() -> None:
    assert disaster_limit([0.0, 0.0, 0.0], smallest=0.5 / 360) == pytest.approx(1.5 / 360)


def test_a_change_of_unit_changes_nothing() -> None:
    ours, theirs = np.array([0.01, 0.2, 0.03]), np.array([0.02, 0.03])
    one, other = (disasters(scale * ours, disaster_limit(scale * theirs)) for scale in (1, 100))
    assert (one.count, one.bound) == (other.count, other.bound)


def test_without_runs_nothing_is_known() -> None:
    assert math.isnan(disaster_limit([np.nan]))
    found = disasters([], 1.0)
    assert (found.count, found.runs, found.bound) == (0, 0, 1.0) and math.isnan(found.share)


@pytest.mark.parametrize(("count", "runs"), [(-1, 3), (4, 3)])
def test_what_is_no_count_is_refused(count: int, runs: int) -> None:
    with pytest.raises(ValueError, match="not a count"):
        rate_bound(count, runs)
