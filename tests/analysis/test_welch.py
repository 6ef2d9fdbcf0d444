"""The comparison of two arms against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from relaxbench.analysis.arm import Arm, disjoint_blocks
from relaxbench.analysis.simultaneous import interval
from relaxbench.analysis.welch import welch_difference


@pytest.mark.parametrize(("ours", "theirs"), [(6, 6), (10, 40), (20, 7)])
def test_of_plain_samples_it_is_the_t_test_of_unequal_variances(ours: int, theirs: int) -> None:
    rng = np.random.default_rng(ours)
    x, y = rng.normal(1, 3, ours), rng.normal(0.5, 0.7, theirs)
    contrast = welch_difference(disjoint_blocks(x), disjoint_blocks(y))
    known = stats.ttest_ind(x, y, equal_var=False)
    assert float(contrast.difference / contrast.error) == pytest.approx(known.statistic, rel=1e-12)
    assert float(contrast.freedom) == pytest.approx(known.df, rel=1e-12)
    ends = known.confidence_interval(0.95)
    assert [float(end) for end in interval(contrast, 0.025)] == pytest.approx([ends.low, ends.high], rel=1e-10)


VARIANCE = st.one_of(st.just(0.0), st.floats(1e-150, 1e100))


@given(VARIANCE, VARIANCE, st.integers(2, 50), st.integers(2, 50))
def test_degrees_of_freedom_lie_between_the_smaller_arm_and_both(ours: float, theirs: float, r: int, s: int) -> None:
    contrast = welch_difference(Arm(np.array(0.0), np.array(ours), r), Arm(np.array(0.0), np.array(theirs), s))
    assert min(r, s) - 1 - 1e-9 <= float(contrast.freedom) <= r + s - 2 + 1e-9


def test_an_arm_without_variance_adds_none() -> None:
    contrast = welch_difference(disjoint_blocks(np.full(10, 2.0)), disjoint_blocks([1.0, 2.0, 3.0, 4.0]))
    assert float(contrast.freedom) == pytest.approx(3)
    assert float(contrast.error) == pytest.approx(stats.sem([1, 2, 3, 4]))


def test_exchanging_the_arms_changes_the_sign_alone() -> None:
    rng = np.random.default_rng(1)
    ours, theirs = disjoint_blocks(rng.normal(size=8)), disjoint_blocks(rng.normal(size=12))
    there, back = welch_difference(ours, theirs), welch_difference(theirs, ours)
    assert there.difference == -back.difference
    assert (float(there.error), float(there.freedom)) == pytest.approx((float(back.error), float(back.freedom)))


def test_a_variance_that_is_not_known_stays_so() -> None:
    contrast = welch_difference(disjoint_blocks([1.0]), disjoint_blocks([1.0, 2.0]))
    assert np.isnan(contrast.error) and np.isnan(contrast.freedom)
