"""SGD against itself where a block is used whole: with a sampler that learns, and with a pruner.

``tests/data/blocks.npz`` has the test error (in %) of 240 block winners on fresh seeds, by tuner. It is from studies of

    problems = ["digits-mlp"], methods = ["sgd"], looks = [240], trials = 8, exploit = 0, recommend = 0, budget = 200

with ``[search] sampler = "tpe"``, ``pruner = "hyperband"``, or both.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from relaxbench.analysis.arm import Arm, disjoint_blocks
from relaxbench.analysis.log_scale import Array, half_example, log_metric
from relaxbench.analysis.simultaneous import Family
from tests.analysis.drawn_studies import false_differences
from tests.analysis.simulated_arms import LOOKS

FILE = Path(__file__).parent.parent / "data" / "blocks.npz"
FAMILY, STUDIES = Family(1, len(LOOKS)), 400


def looks(logs: Array) -> list[Arm]:
    """The arm at every look, of blocks in the order of the last axis."""
    return [disjoint_blocks(logs[:, :blocks], in_full=False) for blocks in LOOKS]


@pytest.mark.parametrize("tuner", ["hyperband", "tpe", "tpe-hyperband"])
def test_sgd_against_itself_with_whole_blocks(tuner: str) -> None:
    with np.load(FILE) as stored:
        logs = log_metric(stored[tuner], half_example(359, 100))
    assert logs.shape == (240,) and len(np.unique(logs)) > 10
    rng, most = np.random.default_rng(0), LOOKS[-1]
    drawn = np.stack([rng.permutation(logs)[: 2 * most] for _ in range(STUDIES)])  # no block in both arms
    different, covered = false_differences([looks(drawn[:, most:])], looks(drawn[:, :most]), FAMILY)
    print(f"{tuner}: false differences {different.mean():.3f}, all intervals cover {covered.mean():.3f}")
    assert different.mean() <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / STUDIES)
    assert covered.mean() >= 0.93
    # A difference that is there is seen: 1.5 times the error.
    worse, _ = false_differences([looks(drawn[:, most:] + math.log(1.5))], looks(drawn[:, :most]), FAMILY)
    assert worse.mean() > 0.5
