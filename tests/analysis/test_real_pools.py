"""SGD against itself on real trials: studies drawn from pools (`tests.pools`), with all looks taken.

A study draws its trials from a pool with replacement, so the estimand is known exactly: the best of T drawn has rank j
of M with probability ((M − j + 1)/M)^T − ((M − j)/M)^T.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from relaxbench.analysis.all_subsets import confirmed_ranks, ranking
from relaxbench.analysis.arm import Arm
from relaxbench.analysis.jackknife import best_of_random
from relaxbench.analysis.log_scale import half_example, log_metric
from relaxbench.analysis.simultaneous import Family, interval
from relaxbench.analysis.welch import welch_difference
from relaxbench.analysis.winsorized import winsorized
from tests.analysis.simulated_arms import LOOKS, TRIALS, over_looks
from tests.pools import POOLS, pool

FAMILY = Family(6, len(LOOKS))
STUDIES = 400
SMALLEST = {"digits-mlp": half_example(359)}
"""Metrics in the pools are as stored: shares of 1, losses, or gradients to a tolerance."""

CENSORED = ("rosenbrock-noisy", "gaussian-wells")
"""Judged by gradients to a tolerance: a run that misses it counts as the budget, whatever the others."""

AGAINST_ITSELF = sorted((name, budget) for name, budget, method in POOLS if method == "sgd")


def logs(name: str, metrics: np.ndarray) -> np.ndarray:
    return log_metric(metrics, SMALLEST.get(name, 0.0))


def limited(values: np.ndarray, results: np.ndarray) -> np.ndarray:
    """ℓ of the best trials ``[..., R, T]`` as `arms.arm_of` counts them in one study: a disaster counts little."""
    size = values.size
    best = ranking(values)[: confirmed_ranks(size, values.shape[-1])]
    kept = np.full(size, np.nan)
    kept[best] = results.ravel()[best]
    return winsorized(kept).reshape(values.shape)


def estimand(name: str, values: np.ndarray, results: np.ndarray) -> float:
    """Mean ℓ of the best of T trials drawn with replacement, with disasters limited as in a very large study."""
    size = len(values)
    order = ranking(values[None])
    if name not in CENSORED:
        top = results[order[: -(-size // 3)]]
        results = np.minimum(results, winsorized(np.append(top, top.max() + 99)).max())
    left = (np.arange(size, -1, -1) / size) ** TRIALS
    return float(results[order] @ -np.diff(left))


def arms(name: str, values: np.ndarray, results: np.ndarray, rng: np.random.Generator) -> list[Arm]:
    """A method in `STUDIES` studies, at every look."""
    drawn = rng.integers(len(values), size=(STUDIES, max(LOOKS), TRIALS))
    looks = []
    for blocks in LOOKS:
        losses, logs = values[drawn[:, :blocks]], results[drawn[:, :blocks]]
        if name not in CENSORED:
            logs = np.stack([limited(*study) for study in zip(losses, logs, strict=True)])
        looks.append(best_of_random(losses, logs))
    return looks


@pytest.mark.parametrize(("name", "budget"), AGAINST_ITSELF)
def test_sgd_against_itself_on_real_trials(name: str, budget: int) -> None:
    trials = pool(name, budget, "sgd")
    results, rng = logs(name, trials.metrics), np.random.default_rng(3)
    theirs = arms(name, trials.values, results, rng)
    different, covered = np.zeros(STUDIES, bool), np.ones(STUDIES, bool)
    for _ in range(FAMILY.comparisons):
        ours = arms(name, trials.values, results, rng)
        for one, other in zip(ours, theirs, strict=True):
            low, high = interval(welch_difference(one, other), FAMILY.share / 2)
            covered &= (low <= 0) & (high >= 0)
        different |= np.isin(over_looks(ours, theirs, FAMILY), ["better", "worse"])
    print(f"{name}@{budget}: false differences {different.mean():.3f}, all intervals cover {covered.mean():.3f}")
    assert different.mean() <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / STUDIES)
    assert covered.mean() >= 0.93


@pytest.mark.parametrize(("name", "budget"), AGAINST_ITSELF)
def test_the_estimate_is_that_of_the_best_of_t(name: str, budget: int) -> None:
    trials = pool(name, budget, "sgd")
    results = logs(name, trials.metrics)
    arm = arms(name, trials.values, results, np.random.default_rng(4))[0]
    error = np.std(arm.estimate) / math.sqrt(STUDIES)
    # At most 1 % of the weight lies on trials without a run on a fresh seed.
    slack = 0.01 * (results.max() - results.min())
    assert abs(float(np.mean(arm.estimate)) - estimand(name, trials.values, results)) <= 4 * error + slack
