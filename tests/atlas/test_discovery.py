"""The p-values match the intervals of the studies, and the adjustment is that of Benjamini and Yekutieli."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from relaxbench.analysis.arm import Arm
from relaxbench.analysis.equivalence import parse_margin
from relaxbench.analysis.simultaneous import Family, judge
from relaxbench.atlas.cells import Cell
from relaxbench.atlas.discovery import adjusted, difference_p, discoveries, equivalence_p, holds


def arm(rng: np.random.Generator, mean: float) -> Arm:
    values = rng.normal(mean, 0.3, 12)
    return Arm(np.asarray(values.mean()), np.asarray(values.var(ddof=1) / 12), 12, 12)


def test_the_p_value_is_that_of_a_t_test_times_the_looks() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(0.3, 1, 9), rng.normal(0, 2, 14)
    welch = stats.ttest_ind(one, other, equal_var=False)
    error = math.sqrt(one.var(ddof=1) / 9 + other.var(ddof=1) / 14)
    p = difference_p(math.exp(one.mean() - other.mean()), error, float(welch.df), looks=2)
    assert p == pytest.approx(min(1, 2 * welch.pvalue))


def test_a_verdict_is_a_p_value_below_its_share_of_the_level() -> None:
    rng, family, margin = np.random.default_rng(1), Family(7, 3), parse_margin("40 %")
    seen = set()
    for _ in range(300):
        candidate, reference = arm(rng, rng.choice([0, 0.2, 0.5, -0.5])), arm(rng, 0)
        said = judge(candidate, reference, family, margin)
        ratio, band = math.exp(said.difference), (math.exp(said.band_low), math.exp(said.band_high))
        p = difference_p(ratio, said.error, said.freedom, family.looks)
        q = equivalence_p(ratio, said.error, said.freedom, band, family.looks)
        assert (said.verdict in ("better", "worse")) == (p < family.level / family.comparisons)
        assert (said.verdict == "equivalent") == (
            q < family.level / family.comparisons and p >= family.level / family.comparisons
        )
        seen.add(said.verdict)
    assert seen == {"better", "worse", "equivalent", "undecided"}


def test_exact_differences_have_exact_p_values() -> None:
    assert (difference_p(1.2, 0.0, math.nan, 3), difference_p(1.0, 0.0, math.nan, 3)) == (0.0, 1.0)
    assert equivalence_p(1.2, 0.0, math.nan, (0.9, 1.1), 3) == 1.0
    assert math.isnan(difference_p(math.nan, 0.1, 5, 3)) and math.isnan(equivalence_p(1, 0.1, 5, (math.nan, 2), 3))


def test_the_adjustment_is_the_step_up_of_benjamini_and_yekutieli() -> None:
    p = [0.0004, 0.9, math.nan, 0.02, 0.0001, 0.3]
    known = sorted(value for value in p if not math.isnan(value))
    harmonic = sum(1 / rank for rank in range(1, len(known) + 1))
    raw = [value * len(known) * harmonic / rank for rank, value in enumerate(known, start=1)]
    expected = {value: min(1.0, *raw[place:]) for place, value in enumerate(known)}
    for value, q in zip(p, adjusted(p), strict=True):
        assert math.isnan(q) if math.isnan(value) else q == pytest.approx(expected[value])
    assert all(math.isnan(q) for q in adjusted([math.nan])) and adjusted([]) == []


def test_few_discoveries_are_false_where_most_cells_are_null() -> None:
    """80 of 100 cells have no difference, which share the baseline of their row: the mean false share is ≤ 5 %."""
    rng, shares = np.random.default_rng(2), []
    for _ in range(60):
        true = np.repeat([0.0, 1.5], [80, 20])
        observed = true + rng.normal(0, 0.2, 100) + np.repeat(rng.normal(0, 0.1, 10), 10)
        error = math.hypot(0.2, 0.1)
        cells = [
            Cell("s", "p", "p", 1.0, str(place), "", verdict="worse", ratio=math.exp(value), low=1.1, high=2.0,
                 error=error, freedom=1e9, looks=1, look=1)
            for place, value in enumerate(observed)
        ]  # fmt: skip
        found = np.array([holds(cell) for cell in discoveries(cells)])
        shares.append((found & (true == 0)).sum() / max(found.sum(), 1))
        assert (found & (true > 0)).sum() >= 15
    assert np.mean(shares) < 0.05


def test_an_undecided_cell_never_holds() -> None:
    cell = Cell("s", "p", "p", 1.0, "m", "", verdict="undecided", q=0.001, q_equivalent=0.001)
    assert not holds(cell)


def test_a_band_without_a_lower_end_is_tested_on_one_side() -> None:
    """A margin in points that exceeds the level: only being too much worse is tested."""
    below = math.log(2.0 / 1.1)
    assert equivalence_p(1.1, 0.2, 15, (0.0, 2.0), 3) == pytest.approx(3 * stats.t.sf(below / 0.2, 15))
    assert equivalence_p(1e-6, 0.2, 15, (0.0, 2.0), 3) < 1e-6 < equivalence_p(1e-6, 0.2, 15, (0.5, 2.0), 3)
    assert math.isnan(equivalence_p(1.1, 0.2, 15, (math.nan, math.nan), 3))
