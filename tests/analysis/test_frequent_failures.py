"""Methods of which a share of the runs fails, against themselves and against one that never does.

Disasters are limited while they are rare (`winsorized`) and count in full where they are frequent. Nowhere in between
may a method seem to differ from itself. docs/statistics.md has the figures of 4,000 studies.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from relaxbench.analysis.simultaneous import Family
from tests.analysis.drawn_studies import Pool, draw, estimand, false_differences
from tests.analysis.simulated_arms import LOOKS

STUDIES = 400
FAMILY = Family(1, len(LOOKS))


def failing(share: float, height: float) -> Pool:
    """A pool of trials whose runs end near 1, or by this chance near `height` times that, whatever the setting."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=4000)
    failed = rng.random(4000) < share
    return values, 0.1 * values + 0.2 * rng.normal(size=4000) + math.log(height) * failed


@pytest.mark.parametrize(
    ("share", "height"), [*product([0.05, 0.15, 0.25, 0.4, 0.5], [4, 30]), *product([0.1, 0.3], [1 / 20])]
)
def test_a_method_does_not_differ_from_itself(share: float, height: float) -> None:
    rng = np.random.default_rng(2)
    ours, theirs = (draw(failing(share, height), rng, STUDIES) for _ in range(2))
    different, covered = false_differences([ours], theirs, FAMILY)
    print(f"{share:.0%} fail {height:g}-fold: different {different.mean():.3f}, all cover {covered.mean():.3f}")
    assert different.mean() <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / STUDIES)
    assert covered.mean() >= 0.93


@pytest.mark.parametrize(("share", "height", "ratio"), [(0.02, 30, 1.02), (0.5, 30, 30**0.5), (0.5, 4, 2)])
def test_rare_failures_count_little_and_frequent_ones_in_full(share: float, height: float, ratio: float) -> None:
    assert math.exp(estimand(failing(share, height)) - estimand(failing(0, height))) == pytest.approx(ratio, rel=0.06)


@pytest.mark.parametrize(
    ("share", "height", "cover"),
    [
        *((0.02, 4, 0.95), (0.05, 4, 0.95), (0.4, 4, 0.95), (0.02, 30, 0.95), (0.05, 30, 0.93), (0.4, 30, 0.93)),
        *((0.02, 1 / 20, 0.95), (0.3, 1 / 20, 0.92), (0.5, 1 / 20, 0.95)),
    ],
)
def test_the_ratio_to_a_method_that_never_fails_is_covered(share: float, height: float, cover: float) -> None:
    """In between it is covered less often, limited or not, and the same for runs far below: see docs/statistics.md."""
    rng = np.random.default_rng(2)
    ours, theirs = failing(share, height), failing(0, height)
    true = estimand(ours) - estimand(theirs)
    moved = ours[0], ours[1] - true
    _, covered = false_differences([draw(moved, rng, STUDIES)], draw(theirs, rng, STUDIES), FAMILY)
    print(f"{share:.0%} fail {height:g}-fold against none: {math.exp(true):.2f} times, all cover {covered.mean():.3f}")
    assert covered.mean() >= cover - 2 * math.sqrt(cover * (1 - cover) / STUDIES)
