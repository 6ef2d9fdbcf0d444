"""The arithmetic against scipy, against simulation and against its own symmetries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from relaxbench.analysis.paired import (
    PairedTest,
    compare,
    detectable_effect,
    holm,
    probability_lower,
    sign_flip,
    verdict,
    wilson,
)

FINITE = st.floats(-1e3, 1e3, width=32)
PAIRS = st.integers(2, 12).flatmap(
    lambda n: st.tuples(arrays(float, n, elements=FINITE), arrays(float, n, elements=FINITE))
)


def tolerance(rate: float, studies: int) -> float:
    """Four standard errors of a rate that is as it should be."""
    return 4 * math.sqrt(rate * (1 - rate) / studies)


def single(comparison: PairedTest) -> str:
    return verdict(comparison, comparison.p)


@pytest.mark.parametrize("n", [6, 10, 15])
def test_t_test_agrees_with_scipy(n: int) -> None:
    rng = np.random.default_rng(n)
    x, y = rng.normal(3, 1, n), rng.normal(3.5, 1, n)
    found, known = compare(x, y), stats.ttest_rel(x, y)
    interval = known.confidence_interval(0.95)
    assert (found.p, found.low, found.high) == pytest.approx((known.pvalue, interval.low, interval.high), rel=1e-10)
    assert found.difference == pytest.approx(np.mean(x - y))
    assert found.correlation == pytest.approx(stats.pearsonr(x, y).statistic)
    assert found.better == pytest.approx(1 - stats.mannwhitneyu(x, y).statistic / n**2)


def test_equivalence_agrees_with_two_t_tests() -> None:
    rng = np.random.default_rng(0)
    d = rng.normal(0.1, 0.3, 10)
    known = max(
        stats.ttest_1samp(d, -0.5, alternative="greater").pvalue, stats.ttest_1samp(d, 0.5, alternative="less").pvalue
    )
    assert compare(d, np.zeros(10), margin=0.5).p_equivalence == pytest.approx(known, rel=1e-10)


@pytest.mark.parametrize("n", [2, 5, 10, 13])
def test_sign_flip_agrees_with_scipy(n: int) -> None:
    d = np.random.default_rng(n).normal(0.4, 1, n).round(1)  # rounded: ties must count on both sides
    known = stats.permutation_test(
        (d, np.zeros(n)), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip(d) == pytest.approx(known.pvalue)


def test_sign_flip_smallest_values_and_sampling() -> None:
    assert sign_flip(np.ones(5)) == 2 / 2**5  # .0625: why fewer than six blocks make no claim
    assert sign_flip(np.ones(6)) == 2 / 2**6
    d = np.random.default_rng(1).normal(0.45, 1, 18)
    exact = stats.permutation_test(
        (d, np.zeros(18)),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**18,
        batch=2**14,
    ).pvalue
    assert sign_flip(d) == pytest.approx(exact, abs=tolerance(exact, 2**15))
    assert sign_flip(d) == sign_flip(d)  # a fixed seed


def test_coverage_and_errors_over_simulated_studies() -> None:
    """2,000 studies of 10 blocks with skewed noise: coverage, false verdicts, false equivalences, power."""
    rng, studies, n, margin = np.random.default_rng(7), 2000, 10, 0.5
    shared = rng.normal(0, 0.5, (studies, n))  # blocks are paired
    noise = lambda: rng.gamma(9, 0.1, (studies, n))  # noqa: E731
    effect = 0.25
    truth = [compare(a + effect, b, margin) for a, b in zip(shared + noise(), shared + noise(), strict=True)]
    assert np.mean([each.low <= effect <= each.high for each in truth]) == pytest.approx(
        0.95, abs=tolerance(0.95, studies)
    )
    null = [compare(a, b, margin) for a, b in zip(shared + noise(), shared + noise(), strict=True)]
    called = [single(each) for each in null]
    wrong = np.mean([name in ("better", "worse") for name in called])
    assert wrong == pytest.approx(0.05, abs=tolerance(0.05, studies))
    assert called.count("better") == pytest.approx(called.count("worse"), abs=4 * math.sqrt(called.count("worse") * 2))
    assert np.mean([each.p_exact <= 0.05 for each in null]) <= 0.05 + tolerance(0.05, studies)
    edge = [compare(a + margin, b, margin) for a, b in zip(shared + noise(), shared + noise(), strict=True)]
    assert np.mean([each.p_equivalence <= 0.05 for each in edge]) <= 0.05 + tolerance(0.05, studies)


def test_family_error_under_holm() -> None:
    """1,000 studies of 6 equal methods: at least one false verdict in at most 5 % of them."""
    rng, studies = np.random.default_rng(8), 1000
    false = 0
    for _ in range(studies):
        arms = rng.normal(0, 1, (6, 10))
        found = [compare(arm, arms[0]) for arm in arms[1:]]
        adjusted = holm([each.p for each in found])
        false += any(verdict(each, p) in ("better", "worse") for each, p in zip(found, adjusted, strict=True))
    assert false / studies <= 0.05 + tolerance(0.05, studies)


@pytest.mark.parametrize("n", [6, 10, 30])
def test_detectable_difference_has_its_power(n: int) -> None:
    rng, studies = np.random.default_rng(n), 4000
    d = rng.normal(detectable_effect(n), 1, (studies, n))
    assert np.mean(stats.ttest_1samp(d, 0, axis=1).pvalue <= 0.05) == pytest.approx(0.8, abs=tolerance(0.8, studies))
    assert detectable_effect(n, level=0.005) > detectable_effect(n)


def test_a_single_difference_detects_nothing() -> None:
    assert detectable_effect(1) == float("inf")


def test_holm_on_known_values() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, float("nan"), 0.01]) == pytest.approx([0.5, float("nan"), 0.02], nan_ok=True)
    assert len(holm([])) == 0


def test_wilson_on_known_values() -> None:
    known = stats.binomtest(9, 200).proportion_ci(method="wilson")
    assert wilson(9, 200) == pytest.approx((known.low, known.high))
    assert wilson(0, 0) == (0.0, 1.0)


def test_constant_differences_are_no_division_by_zero() -> None:
    x = np.linspace(1, 2, 8)
    same = compare(x, x, margin=0.5)
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)
    assert single(same) == "equivalent"
    assert single(compare(x, x)) == "undecided"  # without a margin nothing is equivalent
    apart = compare(x - 0.25, x, margin=0.5)
    assert apart.p == apart.p_exact == 2 / 2**8
    assert single(apart) == "better"
    assert single(compare(np.ones(10), np.ones(10) + 3, margin=1.0)) == "better"
    assert verdict(apart, 0.2) == "equivalent"  # after Holm


def test_few_blocks_make_no_claim() -> None:
    assert single(compare(np.zeros(5), np.arange(5) + 10.0)) == "no claim"


@pytest.mark.parametrize(("x", "y"), [([1.0], [2.0]), ([1.0, 2.0], [1.0]), ([1.0, np.nan], [1.0, 2.0])])
def test_what_cannot_be_compared(x: list[float], y: list[float]) -> None:
    with pytest.raises(ValueError, match=r"expected|finite"):
        compare(np.array(x), np.array(y))


@given(PAIRS)
@settings(max_examples=150, deadline=None)
def test_swapping_the_arms_swaps_the_answer(pair: tuple[np.ndarray, np.ndarray]) -> None:
    ours, theirs = compare(*pair, margin=1.0), compare(*pair[::-1], margin=1.0)
    assert (ours.difference, ours.low, ours.high) == pytest.approx((-theirs.difference, -theirs.high, -theirs.low))
    assert (ours.p, ours.p_exact, ours.better) == pytest.approx((theirs.p, theirs.p_exact, 1 - theirs.better))
    swap = {"better": "worse", "worse": "better"}
    assert single(theirs) == swap.get(single(ours), single(ours))
    assert 0 < ours.p_exact <= 1 and 0 <= ours.p <= 1 and ours.low <= ours.difference <= ours.high


@given(PAIRS, st.floats(0.1, 50), st.randoms())
@settings(max_examples=100, deadline=None)
def test_order_and_units_do_not_matter(pair: tuple[np.ndarray, np.ndarray], factor: float, random: object) -> None:
    order = np.random.default_rng(len(pair[0])).permutation(len(pair[0]))
    plain, other = compare(*pair, margin=1.0), compare(pair[0][order], pair[1][order], margin=1.0)
    scaled = compare(pair[0] * factor, pair[1] * factor, margin=factor)
    assert other.p == pytest.approx(plain.p, rel=1e-6, abs=1e-12)
    assert scaled.p == pytest.approx(plain.p, rel=1e-6, abs=1e-12)
    assert scaled.p_equivalence == pytest.approx(plain.p_equivalence, rel=1e-6, abs=1e-9)
    assert single(other) == single(plain)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_never_lowers_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(a >= p for a, p in zip(adjusted, p_values, strict=True))
    assert all(adjusted <= 1)
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(adjusted[order]) >= 0)


def test_ties_count_half() -> None:
    assert probability_lower(np.array([1.0, 1.0]), np.array([1.0, 2.0])) == 0.75
