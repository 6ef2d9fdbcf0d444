"""SGD against itself on real trials: studies drawn from pools (`tests.pools`), with all looks taken."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from relaxbench.analysis.log_scale import half_example, log_metric
from relaxbench.analysis.simultaneous import Family
from tests.analysis.drawn_studies import Pool, draw, estimand, false_differences
from tests.analysis.simulated_arms import LOOKS
from tests.pools import POOLS, pool

FAMILY = Family(6, len(LOOKS))
STUDIES = 400
SMALLEST = {"digits-mlp": half_example(359)}
"""Metrics in the pools are as stored: shares of 1, losses, or gradients to a tolerance."""

CENSORED = ("rosenbrock-noisy", "gaussian-wells")
"""Judged by gradients to a tolerance: a run that misses it counts as the budget, whatever the others."""

AGAINST_ITSELF = sorted((name, budget) for name, budget, method in POOLS if method == "sgd")


@cache
def trials(name: str, budget: int, method: str = "sgd") -> Pool:
    """Validation losses and ℓ of a stored pool."""
    known = pool(name, budget, method)
    return known.values, log_metric(known.metrics, SMALLEST.get(name, 0.0))


@pytest.mark.parametrize(("name", "budget"), AGAINST_ITSELF)
def test_sgd_against_itself_on_real_trials(name: str, budget: int) -> None:
    rng = np.random.default_rng(3)
    reference, *others = (
        draw(trials(name, budget), rng, STUDIES, name in CENSORED) for _ in range(FAMILY.comparisons + 1)
    )
    different, covered = false_differences(others, reference, FAMILY)
    print(f"{name}@{budget}: false differences {different.mean():.3f}, all intervals cover {covered.mean():.3f}")
    assert different.mean() <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / STUDIES)
    assert covered.mean() >= 0.93


@pytest.mark.parametrize(("name", "budget"), AGAINST_ITSELF)
def test_the_estimate_is_that_of_the_best_of_t(name: str, budget: int) -> None:
    of, full = trials(name, budget), name in CENSORED
    arm = draw(of, np.random.default_rng(4), STUDIES, full)[-1]
    error = np.std(arm.estimate) / math.sqrt(STUDIES)
    # At most 1 % of the weight lies on trials without a run on a fresh seed.
    slack = 0.01 * (of[1].max() - of[1].min())
    assert abs(float(np.mean(arm.estimate)) - estimand(of, full)) <= 4 * error + slack
