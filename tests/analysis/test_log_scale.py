"""Logarithms of metrics: the floor, the ceiling, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from relaxbench.analysis.log_scale import half_example, log_metric, points, smallest_positive


def test_a_run_without_errors_counts_half_an_example() -> None:
    found = log_metric([0.0, 1 / 360, 0.9], smallest=half_example(360))
    assert found == pytest.approx([math.log(1 / 720), math.log(1 / 360), math.log(0.9)])
    assert log_metric([0.0], smallest=half_example(360, 100.0)) == pytest.approx([math.log(100 / 720)])


def test_half_an_example_is_below_one() -> None:
    assert 0 < half_example(360) < 1 / 360


def test_a_miss_counts_as_the_budget() -> None:
    assert log_metric([50.0, 600.0, 900.0], largest=600.0) == pytest.approx(np.log([50, 600, 600]))


def test_a_run_that_is_not_there_stays_away() -> None:
    assert np.isnan(log_metric([np.nan, 1.0], smallest=0.1)).tolist() == [True, False]


@pytest.mark.parametrize("values", [[0.0], [-1.0, 2.0], [np.inf]])
def test_what_has_no_logarithm_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"no logarithm|finite"):
        log_metric(values)


def test_an_error_rate_needs_examples() -> None:
    with pytest.raises(ValueError, match="test example"):
        half_example(0)


def test_points_are_the_difference_of_two_metrics() -> None:
    ours, theirs = 2.6, 2.4
    assert points(math.log(ours / theirs), theirs) == pytest.approx(0.2)
    assert points(0.0, theirs) == 0


def test_a_zero_counts_as_the_smallest_value_above_it_where_logarithms_fit() -> None:
    assert smallest_positive([[3.0, 0.0], [math.nan, 0.2]]) == smallest_positive([math.inf, 0.2]) == 0.2
    for values in ([0.0, 0.0], [1.0, -1e-9], [math.nan], []):
        assert math.isnan(smallest_positive(values))
