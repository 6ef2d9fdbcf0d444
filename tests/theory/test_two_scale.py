"""Homogenization (T12): the slow variable of a fast pair descends the local entropy, not the loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import linalg

from relaxbench.optim.hyper import stack
from relaxbench.problems.landscapes.quadratic import Quadratic
from relaxbench.space import Value
from relaxbench.training.ensemble import Ensemble
from relaxbench.training.oracle import Oracle
from tests.theory.two_scale import TwoScale

A, GAMMA, T = 2.0, 0.5, 1.0


def drift(epsilon: float) -> np.ndarray:
    """d(x, y)/ds = −M (x, y) on f = ½A y²."""
    return np.array([[1 / GAMMA, -1 / GAMMA], [-1 / GAMMA / epsilon, (A + 1 / GAMMA) / epsilon]])


def slow(epsilon: float, steps: int, K: int, temperature: float = 1.0) -> np.ndarray:
    """x(T) of K pairs that begin at (1, 1)."""
    settings = {"time_step": T / steps, "gamma": GAMMA, "epsilon": epsilon, "temperature": temperature}
    return at_end(settings, steps, K)


def at_end(settings: dict[str, Value], steps: int, K: int, *others: dict[str, Value]) -> np.ndarray:
    """x(T) of K pairs, or of one pair for each of several settings."""
    start = torch.ones(K, 1, dtype=torch.float64)
    crowd = Ensemble(Oracle(Quadratic([A])), TwoScale(), start, range(K), steps, settings)
    if others:
        crowd.hyper = crowd.rule.at(stack([settings, *others], start.device, start.dtype), torch.zeros(K, 1))
    for _ in range(steps):
        crowd.step()
    return crowd.state["x"][:, 0].numpy()


def test_t12_the_mean_is_that_of_its_scheme_and_near_the_homogenized_one() -> None:
    epsilon, steps, K = 1e-3, 5000, 400
    x = slow(epsilon, steps, K)
    scheme = np.linalg.matrix_power(np.eye(2) - T / steps * drift(epsilon), steps) @ np.ones(2)
    assert abs(x.mean() - scheme[0]) < 4 * x.std() / K**0.5
    assert scheme[0] == pytest.approx(0.368063, abs=2e-4)  # the exact mean of the pair, of which the scheme is O(ds)
    assert (linalg.expm(-T * drift(epsilon)) @ np.ones(2))[0] == pytest.approx(0.368063, abs=1e-6)
    homogenized = np.exp(-A / (1 + GAMMA * A) * T)
    assert abs(x.mean() - homogenized) < 4 * x.std() / K**0.5 + 4e-4
    assert abs(x.mean() - np.exp(-A * T)) > 0.2  # plain gradient descent is elsewhere


def test_the_error_of_homogenization_is_of_the_order_of_epsilon() -> None:
    homogenized = np.exp(-A / (1 + GAMMA * A) * T)
    settings: list[dict[str, Value]] = [
        {"time_step": T / 2000, "gamma": GAMMA, "epsilon": epsilon, "temperature": 0.0}
        for epsilon in (0.08, 0.04, 0.02)
    ]
    errors = at_end(settings[0], 2000, 3, *settings[1:]) - homogenized
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.12) and errors[1] / errors[2] == pytest.approx(2, rel=0.12)


def test_noise_spreads_the_fast_variable_as_its_density_says() -> None:
    """y given x has variance T/(A + 1/γ), the temperature's share of exp(−βf(y) − β|x − y|²/2γ)."""
    K, epsilon, steps = 4000, 1e-3, 2000
    settings = {"time_step": 0.02 * epsilon, "gamma": GAMMA, "epsilon": epsilon, "temperature": 0.3}
    crowd = Ensemble(
        Oracle(Quadratic([A])), TwoScale(), torch.zeros(K, 1, dtype=torch.float64), range(K), steps, settings
    )
    for _ in range(steps):
        crowd.step()
    apart = (crowd.state["y"] - crowd.state["x"] / (1 + GAMMA * A)).numpy()
    ratio = 0.02 * (A + 1 / GAMMA)  # the scheme's own variance is a little larger: 1/(1 − r/2)
    assert apart.var() == pytest.approx(0.3 / (A + 1 / GAMMA) / (1 - ratio / 2), rel=4 * (2 / K) ** 0.5 + 0.01)
