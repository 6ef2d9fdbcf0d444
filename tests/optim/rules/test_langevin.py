"""The Langevin chain inside Entropy-SGD, at fixed x: its variance, and its noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import linalg

from tests.optim.loops import Vector
from tests.optim.populations import PLAIN, RULES, members, tensors, trace


def langevin(
    curvature: float, gamma: float, rate: float, momentum: float, temperature: float, x: float, steps: int, K: int
) -> Vector:
    """The inner iterates y of K × 40 independent chains after some steps."""
    rule = RULES["entropy-sgd"]()
    values = {**PLAIN, "inner_lr": rate, "gamma": gamma, "momentum": momentum, "temperature": temperature}
    hyper = tensors({**values, "averaging": 0.75, "inner_steps": 10**9, "outer_lr": 1.0})
    hyper = {key: value.expand(K, 1) for key, value in hyper.items()}
    state = rule.init(torch.full((K, 40), x, dtype=torch.float64), torch.arange(K)[:, None])
    for _ in range(steps):
        state = rule.update(state, curvature * rule.query(state, hyper).points, torch.zeros(K, 1), hyper)
    assert bool((rule.iterate(state) == x).all())
    return state["y"].numpy().ravel()


def chain_variance(M: float, rate: float, momentum: float, noise: float, steps: int | None = None) -> float:
    """Var(y) of y' = y − η(M y + m v'), v' = m v + M y, with noise of that variance added to y.

    After some steps from a point, or, without a number of them, in the limit: the discrete Lyapunov equation.
    """
    m = momentum
    step, kick = np.array([[1 - rate * M * (1 + m), -rate * m * m], [M, m]]), np.diag([noise, 0.0])
    if steps is None:
        return float(linalg.solve_discrete_lyapunov(step, kick)[0, 0])
    covariance = 0 * kick
    for _ in range(steps):
        covariance = step @ covariance @ step.T + kick
    return float(covariance[0, 0])


@pytest.mark.parametrize(
    ("curvature", "gamma", "rate", "temperature"), [(1.0, 1.0, 0.2, 0.5), (3.0, 0.5, 0.3, 2.0), (-0.5, 1.0, 0.5, 1.0)]
)
def test_the_chain_without_momentum_has_exactly_its_discrete_variance(
    curvature: float, gamma: float, rate: float, temperature: float
) -> None:
    """y ← y − ηM(y − y*) + √(2ηT) ξ has variance T/(M(1 − ηM/2)), which the first n steps approach from 0."""
    M, n, x = curvature + 1 / gamma, 25, 0.7
    ratio = 1 - rate * M
    y = langevin(curvature, gamma, rate, 0.0, temperature, x, n, 800)
    star = x / (1 + gamma * curvature)
    variance = temperature / (M * (1 - rate * M / 2)) * (1 - ratio ** (2 * n))
    assert abs(y.mean() - star - ratio**n * (x - star)) < 4 * (variance / y.size) ** 0.5
    assert abs(y.var() / variance - 1) < 4 * (2 / y.size) ** 0.5
    kurtosis = ((y - y.mean()) ** 4).mean() / y.var() ** 2
    assert abs(kurtosis - 3) < 4 * (24 / y.size) ** 0.5  # Gaussian, as the target is


@pytest.mark.parametrize(("scaled", "steps", "hotter"), [(2.5e-3, 200, 1.211), (1e-2, 100, 1.795), (1e-1, 60, 5.924)])
def test_the_chain_with_momentum_has_the_variance_of_its_lyapunov_equation(
    scaled: float, steps: int, hotter: float
) -> None:
    """m = 0.9 at ηM = `scaled`: `hotter` times T/M in the limit of many steps, which is T/M for ηM ≪ (1 − m)² only."""
    curvature, gamma, T, m = 1.0, 1.0, 0.5, 0.9
    M = curvature + 1 / gamma
    rate = scaled / M
    noise = 2 * rate * T / (1 - m)
    variance = chain_variance(M, rate, m, noise, steps)
    y = langevin(curvature, gamma, rate, m, T, 0.0, steps, 200)
    assert abs(y.mean()) < 4 * (variance / y.size) ** 0.5
    assert abs(y.var() / variance - 1) < 4 * (2 / y.size) ** 0.5
    limit = chain_variance(M, rate, m, noise)
    assert variance == pytest.approx(limit, rel=0.01)
    assert limit == pytest.approx(hotter * T / M, rel=1e-3)


@pytest.mark.parametrize("m", [0.0, 0.5, 0.9, 0.95])
def test_the_temperature_is_the_effective_one_in_the_limit_of_small_steps(m: float) -> None:
    """With noise √(2ηT/(1 − m)) the variance tends to T/M, at first order in η; without the 1/(1 − m), to (1 − m) T/M.

    About the formula of the rule's docstring: the test above ties the rule itself to it.
    """
    M, T = 2.0, 0.5
    errors = [chain_variance(M, eta, m, 2 * eta * T / (1 - m)) * M / T - 1 for eta in (1e-5, 1e-6)]
    assert abs(errors[1]) < 1e-3 and errors[0] / errors[1] == pytest.approx(10, rel=0.05)
    assert chain_variance(M, 1e-6, m, 2e-6 * T) * M / T == pytest.approx(1 - m, rel=1e-3)


def test_noise_differs_between_members_steps_and_parameters() -> None:
    population = members("entropy-sgd", 3, 50, 2, seed=1)
    population.hyper["inner_steps"] = torch.full((3, 1), 10.0, dtype=torch.float64)
    rows = [0, 0, 0]
    same = population.rows(rows)
    same.seeds[:] = torch.tensor([[1], [2], [1]])
    queries, _, _ = trace("entropy-sgd", same, 2)
    assert torch.equal(queries[1][0], queries[1][2])  # the seed is all that a member's noise depends on
    assert not bool((queries[1][0] == queries[1][1]).any())
    assert queries[1][0].unique().numel() == 50
