"""The simultaneous interval and its verdict: symmetries, and no contradiction between the two."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from relaxbench.analysis.arm import Arm, disjoint_blocks
from relaxbench.analysis.equivalence import Margin
from relaxbench.analysis.log_scale import log_metric, points
from relaxbench.analysis.simultaneous import DECIDED, Family, Judgement, interval, judge
from relaxbench.analysis.welch import welch_difference
from tests.analysis.simulated_arms import arms, one, verdicts

ESTIMATE = st.floats(-3, 3)
VARIANCE = st.one_of(st.just(0.0), st.floats(1e-6, 1))
ARM = st.builds(lambda mean, variance, blocks: Arm(np.array(mean), np.array(variance), blocks),
                ESTIMATE, VARIANCE, st.integers(2, 40))  # fmt: skip
FAMILY = st.builds(Family, st.integers(1, 60), st.integers(1, 5))
MARGIN = st.one_of(
    st.none(),
    st.builds(Margin, st.floats(0.01, 5)),
    st.builds(Margin, st.floats(0.01, 0.99), st.just("ratio")),
)


@given(ARM, ARM, FAMILY, MARGIN)
def test_a_verdict_is_where_its_interval_lies(ours: Arm, theirs: Arm, family: Family, margin: Margin | None) -> None:
    found = judge(ours, theirs, family, margin)
    if min(ours.blocks, theirs.blocks) < 6:
        assert found.verdict == "no claim" and math.isnan(found.low)
        return
    assert found.low <= found.difference <= found.high
    inside = found.band_low <= found.low and found.high <= found.band_high
    known = "better" if found.high < 0 else "worse" if found.low > 0 else "equivalent" if inside else "undecided"
    assume(not (found.low == found.high and found.low in (found.band_low, found.band_high)))  # a point on the border
    assert found.verdict == known
    assert found.decided == (known in DECIDED)


@given(ARM, ARM, FAMILY, MARGIN)
def test_the_interval_is_the_one_that_is_stated(ours: Arm, theirs: Arm, family: Family, margin: Margin | None) -> None:
    found = judge(ours, theirs, family, margin)
    assume(found.verdict in ("better", "worse", "undecided"))
    half = stats.t.ppf(1 - 0.05 / (2 * family.comparisons * family.looks), found.freedom) * found.error
    assert (found.low, found.high) == pytest.approx((found.difference - half, found.difference + half), abs=1e-9)


@given(ARM, ARM, FAMILY)
def test_exchanging_the_arms_mirrors_the_verdict(ours: Arm, theirs: Arm, family: Family) -> None:
    there, back = judge(ours, theirs, family), judge(theirs, ours, family)
    mirror = {"better": "worse", "worse": "better"}
    assert back.verdict == mirror.get(there.verdict, there.verdict)


@given(
    st.lists(st.floats(0.01, 50), min_size=6, max_size=12),
    st.lists(st.floats(0.01, 50), min_size=6, max_size=12),
    st.floats(0.05, 0.9),
    st.floats(0.001, 1000),
)
def test_a_change_of_unit_changes_nothing(ours: list[float], theirs: list[float], share: float, unit: float) -> None:
    family = Family(6, 3)
    one_unit, other = (
        judge(
            disjoint_blocks(log_metric(np.array(ours) * scale)),
            disjoint_blocks(log_metric(np.array(theirs) * scale)),
            family,
            Margin(share * min(theirs) * scale),
        )
        for scale in (1.0, unit)
    )
    assert (other.low, other.high) == pytest.approx((one_unit.low, one_unit.high), rel=1e-6, abs=1e-6)
    edges = [one_unit.low, one_unit.high, one_unit.low - one_unit.band_low, one_unit.high - one_unit.band_high]
    assume(min(map(abs, edges)) > 1e-6)
    assert other.verdict == one_unit.verdict


@given(ARM, ARM, FAMILY, st.floats(0.01, 2))
def test_a_lower_error_is_never_judged_worse(ours: Arm, theirs: Arm, family: Family, less: float) -> None:
    order = ["better", "undecided", "worse"]
    assume(min(ours.blocks, theirs.blocks) >= 6)
    lower = Arm(ours.estimate - less, ours.variance, ours.blocks)
    before, after = judge(ours, theirs, family), judge(lower, theirs, family)
    assert order.index(after.verdict) <= order.index(before.verdict)
    assert after.high < before.high


@given(ARM, ARM, FAMILY, MARGIN)
def test_a_larger_family_decides_no_more(ours: Arm, theirs: Arm, family: Family, margin: Margin | None) -> None:
    larger = Family(family.comparisons + 3, family.looks)
    few, many = judge(ours, theirs, family, margin), judge(ours, theirs, larger, margin)
    assert few.decided or not many.decided
    if many.verdict in ("better", "worse"):
        assert few.verdict == many.verdict


@given(ARM, ARM, FAMILY, st.floats(0.01, 0.4), st.floats(0.01, 0.5))
def test_a_wider_margin_calls_more_equivalent(
    ours: Arm, theirs: Arm, family: Family, share: float, more: float
) -> None:
    narrow, wide = (judge(ours, theirs, family, Margin(share + extra, "ratio")) for extra in (0.0, more))
    assert narrow.verdict != "equivalent" or wide.verdict == "equivalent"


def test_arms_without_variance_have_a_point() -> None:
    family, margin = Family(6, 3), Margin(0.1, "ratio")
    same, worse = disjoint_blocks(np.full(10, 0.5)), disjoint_blocks(np.full(10, 0.7))
    assert judge(same, same, family, margin).verdict == "equivalent"
    found = judge(worse, same, family, margin)
    assert (found.verdict, found.low, found.high) == ("worse", pytest.approx(0.2), pytest.approx(0.2))


def test_without_results_there_is_no_claim() -> None:
    missing, whole = disjoint_blocks(np.full(10, np.nan)), disjoint_blocks(np.arange(10.0))
    without = judge(missing, whole, Family(1, 1))
    assert (without.verdict, without.obstacle, without.over) == ("no claim", "logarithm", True)
    unequal = Judgement("no claim", 2.5, blocks=10, reference_blocks=5, obstacle="blocks")
    # By their texts: from Python 3.13 on, dataclasses that hold NaN are not equal.
    assert repr(judge(whole, disjoint_blocks(np.arange(5.0)), Family(1, 1))) == repr(unequal)


def test_many_studies_at_once_are_judged_as_each_alone() -> None:
    rng, family = np.random.default_rng(0), Family(6, 3)
    ours, theirs = arms("narrow", rng, 40, mean=0.1, looks=[10])[0], arms("noisy", rng, 40, looks=[10])[0]
    for margin in (None, Margin(0.6), Margin(0.4, "ratio")):
        known = [judge(one(ours, study), one(theirs, study), family, margin).verdict for study in range(40)]
        assert verdicts(ours, theirs, family, margin).tolist() == known


def test_the_level_is_shared() -> None:
    assert Family(6, 3).share == pytest.approx(0.05 / 18)


@pytest.mark.parametrize(("comparisons", "looks", "level"), [(0, 1, 0.05), (1, 0, 0.05), (1, 1, 0.0), (1, 1, 1.0)])
def test_what_is_no_family_is_refused(comparisons: int, looks: int, level: float) -> None:
    with pytest.raises(ValueError, match="family"):
        Family(comparisons, looks, level)


def test_points_at_the_reference_are_no_interval_of_the_difference() -> None:
    """Both means are unknown. Four times better, SGD's spread the larger: nominal 95 %, measured 43 %."""
    rng, blocks, studies = np.random.default_rng(0), 10, 20_000
    ours = disjoint_blocks(math.log(0.6) + 0.1 * rng.standard_normal((studies, blocks)))
    theirs = disjoint_blocks(math.log(2.4) + 0.3 * rng.standard_normal((studies, blocks)))
    low, high = interval(welch_difference(ours, theirs), 0.025)
    covered = np.mean((low <= math.log(0.25)) & (math.log(0.25) <= high))
    level = np.exp(theirs.estimate)
    at_level = np.mean((points(low, level) <= -1.8) & (points(high, level) >= -1.8))
    assert covered == pytest.approx(0.95, abs=0.01) and at_level < 0.6
