"""Disjoint blocks, for samplers whose trials depend on each other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from relaxbench.analysis.arm import disjoint_blocks


def test_the_variance_is_that_of_a_mean() -> None:
    logs = np.random.default_rng(0).normal(size=(3, 8))
    arm = disjoint_blocks(logs)
    assert arm.estimate == pytest.approx(logs.mean(axis=1))
    assert np.sqrt(arm.variance) == pytest.approx(stats.sem(logs, axis=1))
    assert arm.blocks == 8


def test_equal_blocks_have_no_variance_at_all() -> None:
    arm = disjoint_blocks(np.full(7, 0.1))
    assert (float(arm.estimate), float(arm.variance)) == (0.1, 0.0)


def test_one_block_has_no_variance_to_estimate() -> None:
    arm = disjoint_blocks([0.5])
    assert float(arm.estimate) == 0.5 and np.isnan(arm.variance)


def test_a_missing_block_is_not_passed_over() -> None:
    assert np.isnan(disjoint_blocks([0.1, np.nan, 0.3]).estimate)


@pytest.mark.parametrize("logs", [[], 1.0])
def test_no_block_is_refused(logs: object) -> None:
    with pytest.raises(ValueError, match="at least one block"):
        disjoint_blocks(logs)
