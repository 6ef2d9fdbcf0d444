"""The jackknife against leaving out blocks by hand, and its variance against the true one."""

from __future__ import annotations

import numpy as np
import pytest

from relaxbench.analysis.all_subsets import best_of_subsets, confirmed_ranks, ranking
from relaxbench.analysis.arm import disjoint_blocks
from relaxbench.analysis.jackknife import best_of_random, pseudo_values
from tests.analysis.simulated_arms import TRIALS, draw


def by_hand(values: np.ndarray, logs: np.ndarray, confirmed: int) -> list[float]:
    """Pseudo-values from estimates in which runs are hidden, one block left out after the other."""
    used = np.full(logs.size, np.nan)
    best = ranking(values)[:confirmed]
    used[best] = logs.ravel()[best]
    used = used.reshape(logs.shape)
    whole, blocks = float(best_of_subsets(values, used, confirmed)[0]), len(values)
    found = []
    for block in range(blocks):
        rest, runs = np.delete(values, block, axis=0), np.delete(used, block, axis=0)
        without = float(best_of_subsets(rest, runs, rest.size)[0])  # the runs there are, wherever they rank now
        found.append(blocks * whole - (blocks - 1) * without)
    return found


@pytest.mark.parametrize(("blocks", "size"), [(2, 3), (6, 4), (10, 12), (7, 1)])
def test_pseudo_values_follow_from_leaving_out_one_block(blocks: int, size: int) -> None:
    rng = np.random.default_rng(blocks)
    values, logs = rng.normal(size=(blocks, size)).round(1), rng.normal(size=(blocks, size))  # with ties
    count = confirmed_ranks(blocks * size, size)
    found, estimate = pseudo_values(values, logs)
    known = by_hand(values, logs, count)
    assert found == pytest.approx(known, rel=1e-9, nan_ok=True)
    assert float(estimate) == pytest.approx(float(best_of_subsets(values, logs)[0]), rel=1e-12)
    arm = best_of_random(values, logs)
    assert float(arm.variance) == pytest.approx(np.var(known, ddof=1) / blocks, nan_ok=True)
    assert arm.blocks == blocks


def test_one_trial_per_block_is_a_mean() -> None:
    values, logs = np.arange(8.0)[:, None], np.random.default_rng(0).normal(size=(8, 1))
    arm, plain = best_of_random(values, logs), disjoint_blocks(logs[:, 0])
    assert float(arm.estimate) == pytest.approx(float(plain.estimate))
    assert float(arm.variance) == pytest.approx(float(plain.variance))


def test_equal_results_have_no_variance_at_all() -> None:
    arm = best_of_random(np.random.default_rng(0).normal(size=(6, 4)), np.full((6, 4), 0.1))
    assert (float(arm.estimate), float(arm.variance)) == (0.1, 0.0)


def test_one_block_has_no_variance_to_estimate() -> None:
    arm = best_of_random(np.arange(4.0)[None], np.arange(4.0)[None])
    assert np.isfinite(arm.estimate) and np.isnan(arm.variance)


def test_many_studies_at_once_are_each_alone() -> None:
    rng = np.random.default_rng(3)
    values, logs = rng.normal(size=(5, 6, 4)), rng.normal(size=(5, 6, 4))
    many = best_of_random(values, logs)
    for study in range(5):
        alone = best_of_random(values[study], logs[study])
        assert many.estimate[study] == pytest.approx(float(alone.estimate), rel=1e-13)
        assert many.variance[study] == pytest.approx(float(alone.variance), rel=1e-10)


def test_blocks_may_be_in_any_order() -> None:
    rng = np.random.default_rng(4)
    values, logs, order = rng.normal(size=(6, 4)), rng.normal(size=(6, 4)), rng.permutation(6)
    arm, again = best_of_random(values, logs), best_of_random(values[order], logs[order])
    assert float(again.estimate) == pytest.approx(float(arm.estimate), rel=1e-12)
    assert float(again.variance) == pytest.approx(float(arm.variance), rel=1e-10)


@pytest.mark.parametrize(("shape", "ratio"), [("narrow", 0.9), ("noisy", 0.8), ("skewed", 1.0)])
def test_the_variance_is_the_true_one_and_below_that_of_disjoint_blocks(shape: str, ratio: float) -> None:
    """2,000 studies of 10 blocks of 12. Measured: V is 0.97 to 1.05 of the true variance on average."""
    values, logs = draw(shape, np.random.default_rng(5), (2000, 10, TRIALS))
    arm = best_of_random(values, logs)
    winners = np.take_along_axis(logs, values.argmin(axis=-1)[..., None], axis=-1)[..., 0]
    plain = disjoint_blocks(winners)
    assert arm.variance.mean() / arm.estimate.var() == pytest.approx(1, abs=0.12)
    assert arm.estimate.var() < ratio * plain.estimate.var()
    assert arm.estimate.mean() == pytest.approx(plain.estimate.mean(), abs=0.02)
