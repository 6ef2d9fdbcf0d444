"""Exact intervals of quantiles, against scipy and simulated studies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from relaxbench.analysis.quantiles import quantile_interval, ranks
from tests.analysis.simulated_arms import tolerance


@pytest.mark.parametrize(("total", "n"), [(120, 1), (120, 7), (120, 22), (37, 3), (10, 1)])
def test_interval_of_a_quantile_agrees_with_scipy(total: int, n: int) -> None:
    values = np.random.default_rng(total).lognormal(0, 0.8, total)
    share = 1 - 2 ** (-1 / n)
    known = stats.quantile_test(values, p=share).confidence_interval(0.95)
    low, high = quantile_interval(values, share)
    assert (low[0], high[0]) == (known.low, known.high)


@given(total=st.integers(0, 3000), share=st.floats(1e-4, 1 - 1e-4))
def test_ranks_are_the_quantiles_of_the_binomial_distribution(total: int, share: float) -> None:
    low, high = ranks(total, share)
    assert [low[0], high[0] - 1] == stats.binom.ppf([0.025, 0.975], total, share).tolist()


def test_coverage_of_the_median_best() -> None:
    """4,000 studies of 120 trials; at least 95 %, and above it by no more than one rank is worth."""
    rng, studies = np.random.default_rng(2), 4000
    values = np.sort(rng.exponential(size=(studies, 120)), axis=1)
    for n in (1, 5, 20):
        low, high = (each[0] - 1 for each in ranks(120, 1 - 2 ** (-1 / n)))
        rate = np.mean((values[:, low] <= np.log(2) / n) & (np.log(2) / n <= values[:, high]))
        share = 1 - 2 ** (-1 / n)
        known = stats.binom.cdf(high, 120, share) - stats.binom.cdf(low, 120, share)
        assert known >= 0.95 and rate == pytest.approx(known, abs=tolerance(0.95, studies))
