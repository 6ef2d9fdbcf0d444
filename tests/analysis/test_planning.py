"""Blocks to a decision, against the power of the t test and at the ends where the answer is certain."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from relaxbench.analysis.equivalence import Margin
from relaxbench.analysis.planning import Spreads, expect
from relaxbench.analysis.simultaneous import Family

RATIO = Margin(0.1, "ratio")


@pytest.mark.parametrize(("ratio", "spread"), [(1.25, 0.2), (1.5, 0.4), (0.7, 0.3)])
def test_one_look_decides_with_the_power_of_the_t_test(ratio: float, spread: float) -> None:
    """Equal spreads: Welch's test has the degrees of freedom 2 (R − 1), nearly."""
    blocks, family = 20, Family(comparisons=3, looks=1)
    found = expect(ratio, Spreads(spread, (spread,) * 3), [blocks], family, None)
    freedom, shift = 2 * (blocks - 1), abs(math.log(ratio)) / (spread * math.sqrt(2 / blocks))
    power = stats.nct.sf(stats.t.isf(0.05 / 6, freedom), freedom, shift)
    assert found.decided == pytest.approx(power, abs=0.03)
    assert found.blocks == (20, 20, 20) and found.reference_blocks == 20


def test_small_spreads_are_decided_at_the_first_look_and_large_ones_at_none() -> None:
    looks, family = [10, 20, 40], Family(2, 3)
    for ratio in (1.0, 1.25):
        small = expect(ratio, Spreads(1e-3, (1e-3, 1e-3)), looks, family, RATIO)
        assert (small.decided, small.blocks, small.reference_blocks) == (1.0, (10, 10), 10)
    large = expect(1.0, Spreads(3.0, (3.0, 3.0)), looks, family, RATIO)
    assert large.decided < 0.05 and min(large.blocks) > 39


def test_the_baseline_goes_as_far_as_the_slowest_method() -> None:
    found = expect(1.25, Spreads(0.1, (0.05, 0.4)), [10, 20, 40], Family(2, 3), RATIO)
    quick, slow = found.blocks
    assert quick < slow <= found.reference_blocks <= 40


def test_a_margin_in_points_needs_the_level() -> None:
    looks, family, points = [10, 20, 40], Family(1, 3), Margin(1.0)
    unknown = expect(1.0, Spreads(0.05, (0.05,)), looks, family, points)
    assert unknown.decided < 0.05 and unknown.blocks[0] > 39
    known = expect(1.0, Spreads(0.05, (0.05,), level=10.0), looks, family, points)
    assert known.decided == 1.0
    same = expect(1.0, Spreads(0.05, (0.05,), level=10.0), looks, family, RATIO)
    assert known.blocks[0] == pytest.approx(same.blocks[0], abs=1.0)
