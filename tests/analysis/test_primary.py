"""What would change a verdict: the blocks that would decide it, and the smallest margin, by judging again."""

from __future__ import annotations

import math

import numpy as np
import pytest

from relaxbench.analysis.arm import Arm
from relaxbench.analysis.equivalence import Margin
from relaxbench.analysis.primary import FARTHEST, blocks_to_decide, smallest_margin
from relaxbench.analysis.simultaneous import Family, Judgement, judge

FAMILY = Family(5, 3)


def arms(difference: float, blocks: int, spread: float) -> tuple[Arm, Arm]:
    """A method and a reference whose variance falls with the number of blocks."""
    variance = np.array(spread**2 / blocks)
    return Arm(np.array(difference), variance, blocks), Arm(np.array(0.0), variance, blocks)


def judged(difference: float, blocks: int, spread: float, margin: Margin | None = None) -> Judgement:
    return judge(*arms(difference, blocks, spread), FAMILY, margin)


@pytest.mark.parametrize(
    ("difference", "margin", "verdict"),
    [(0.1, None, "worse"), (-0.1, None, "better"), (0.01, Margin(0.1, "ratio"), "equivalent")],
)
def test_a_comparison_is_decided_at_the_blocks_that_it_needs(
    difference: float, margin: Margin | None, verdict: str
) -> None:
    needed = blocks_to_decide(judged(difference, 10, 0.3, margin), FAMILY.share)
    assert needed is not None and needed > 10
    assert judged(difference, needed, 0.3, margin).verdict == verdict
    # Fewer by a few percent would not do. Degrees of freedom are taken to grow with the blocks: 18 at 10, not R − 1.
    assert judged(difference, math.floor(0.93 * needed), 0.3, margin).verdict == "undecided"


def test_nothing_is_needed_where_it_is_decided_or_hopeless() -> None:
    assert blocks_to_decide(judged(1.0, 10, 0.1), FAMILY.share) is None
    assert blocks_to_decide(judged(1e-4, 10, 0.3), FAMILY.share) is None
    assert blocks_to_decide(judged(0.0, 10, 0.0), FAMILY.share) is None
    far = blocks_to_decide(judged(0.0235, 10, 0.3), FAMILY.share)
    assert far is None or far <= 10 * FARTHEST


@pytest.mark.parametrize(("difference", "spread"), [(0.02, 0.1), (-0.03, 0.05), (0.0, 0.2)])
def test_the_smallest_margin_is_where_equivalence_begins(difference: float, spread: float) -> None:
    least = smallest_margin(judged(difference, 20, spread), FAMILY.share)
    assert judged(difference, 20, spread, Margin(least * 1.001, "ratio")).verdict == "equivalent"
    assert judged(difference, 20, spread, Margin(least * 0.999, "ratio")).verdict == "undecided"


def test_no_margin_is_known_without_an_error() -> None:
    assert math.isnan(smallest_margin(Judgement("no claim", 0.1), FAMILY.share))
