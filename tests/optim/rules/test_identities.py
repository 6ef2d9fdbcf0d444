"""Closed forms on quadratics (specification, T9 and T11), and the methods that other libraries have."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from relaxbench.optim.hyper import defaults
from relaxbench.optim.rule import Query, Rule, State
from relaxbench.optim.rules.entropy_sgd import EntropySGD
from tests import splitmix
from tests.optim.loops import Vector
from tests.optim.populations import PLAIN, RULES, Members, members, tensors, trace


@given(st.integers(0, 10**6), st.floats(1e-3, 0.1), st.floats(0, 0.99), st.floats(0.9, 0.9999), st.floats(0, 0.5))
@settings(max_examples=25)
def test_adamw_is_torch_optim_adamw(seed: int, lr: float, beta1: float, beta2: float, decay: float) -> None:
    population = members("adamw", 1, 4, 25, seed)
    now = tensors({"adam_lr": lr, "beta1": beta1, "beta2": beta2, "decoupled_decay": decay})
    parameter = torch.nn.Parameter(population.x[0].clone())
    optimizer = torch.optim.AdamW([parameter], lr=lr, betas=(beta1, beta2), weight_decay=decay)
    rule = RULES["adamw"]()
    state = rule.init(population.x, population.seeds)
    for t in range(25):
        point = rule.query(state, now).points
        assert torch.allclose(point[0], parameter.detach(), rtol=1e-9, atol=1e-9)
        parameter.grad = population.gradient(Query(parameter.detach()[None], torch.tensor([[t]])))[0]
        optimizer.step()
        state = rule.update(state, population.gradient(Query(point, torch.tensor([[t]]))), torch.zeros(1, 1), now)
    assert torch.allclose(rule.iterate(state)[0], parameter.detach(), rtol=1e-9, atol=1e-9)


# SGD against PyTorch, and its average against a recomputation.


@pytest.mark.parametrize("nesterov", [True, False])
@settings(max_examples=20)
@given(st.integers(0, 10**6), st.floats(1e-3, 0.3), st.floats(0.01, 0.99), st.floats(0, 0.1))
def test_sgd_is_torch_optim_sgd(nesterov: bool, seed: int, lr: float, momentum: float, weight_decay: float) -> None:
    population = members("sgd", 1, 4, 25, seed)
    rule = RULES["sgd"](nesterov=nesterov)  # type: ignore[call-arg]
    now = tensors({"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
    parameter = torch.nn.Parameter(population.x[0].clone())
    optimizer = torch.optim.SGD([parameter], lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
    state = rule.init(population.x, population.seeds)
    for t in range(25):
        point = rule.query(state, now).points
        assert torch.allclose(point[0], parameter.detach(), rtol=1e-12, atol=1e-12)
        parameter.grad = population.gradient(Query(parameter.detach()[None], torch.tensor([[t]])))[0]
        optimizer.step()
        state = rule.update(state, population.gradient(Query(point, torch.tensor([[t]]))), torch.zeros(1, 1), now)
    assert torch.allclose(rule.iterate(state)[0], parameter.detach(), rtol=1e-12, atol=1e-12)


@given(st.integers(0, 10**6), st.integers(5, 500))
@settings(max_examples=10)
def test_a_young_average_is_the_plain_mean(seed: int, ema_steps: int) -> None:
    population = members("sgd-ema", 2, 3, 40, seed)
    population.hyper["ema_steps"] = torch.full((2, 1), float(ema_steps), dtype=torch.float64)
    queries, iterates, _ = trace("sgd-ema", population, 40)
    for t in range(1, min(40, ema_steps + 1)):
        assert torch.allclose(iterates[t], torch.stack(queries[1 : t + 1]).mean(dim=0), rtol=1e-10, atol=1e-12)
    for t in range(ema_steps + 1, 40):  # then exponential, with the time that its name promises
        expected = iterates[t - 1] + (queries[t] - iterates[t - 1]) / ema_steps
        assert torch.allclose(iterates[t], expected, rtol=1e-10, atol=1e-12)


# T11: identities on a quadratic.


def quadratic(seed: int, P: int = 3, low: float = 0.1, high: float = 3.0) -> tuple[Vector, Vector]:
    """A random symmetric matrix with eigenvalues in [low, high], and a point."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(P, P)))[0]
    return basis @ np.diag(rng.uniform(low, high, size=P)) @ basis.T, rng.normal(size=P)


def descend(
    rule: Rule, x: Vector, gradient: Callable[[int, Vector], Vector], hyper: dict[str, Tensor], steps: int
) -> tuple[list[Vector], State]:
    """One member; the points that it asked for and its last state."""
    state = rule.init(torch.tensor(x)[None], torch.zeros(1, 1, dtype=torch.int64))
    points = []
    for t in range(steps):
        points.append(rule.query(state, hyper).points[0].numpy().copy())
        state = rule.update(state, torch.tensor(gradient(t, points[-1]))[None], torch.zeros(1, 1), hyper)
    return points, state


RATES = st.floats(0.01, 0.3)
GAMMAS = st.floats(0.2, 100)


@settings(max_examples=40)
@given(st.integers(0, 10**6), RATES, GAMMAS, st.floats(0, 0.95), st.integers(1, 30), st.floats(0.05, 1))
@example(seed=0, rate=0.1, gamma=1.0, a=0.75, L=20, outer_lr=1.0)
def test_t11_the_inner_loop_in_closed_form(
    seed: int, rate: float, gamma: float, a: float, L: int, outer_lr: float
) -> None:
    """y_i = y* + B^i (x − y*) at every query, and x moves by η_x toward the z_L of the formula."""
    A, x = quadratic(seed)
    identity = np.eye(3)
    B = identity - rate * (A + identity / gamma)
    assume(np.abs(np.linalg.eigvalsh(B) - a).min() > 1e-3)  # the formula divides by a − B
    star = np.linalg.solve(identity + gamma * A, x)
    hyper = tensors({**PLAIN, "inner_lr": rate, "gamma": gamma, "averaging": a, "inner_steps": L, "outer_lr": outer_lr})
    points, state = descend(RULES["entropy-sgd"](), x, lambda t, y: A @ y, hyper, L)
    for i, point in enumerate(points):
        assert np.allclose(point, star + np.linalg.matrix_power(B, i) @ (x - star), rtol=1e-10, atol=1e-10)
    power = np.linalg.matrix_power(B, L)
    geometric = B @ (a**L * identity - power) @ np.linalg.inv(a * identity - B)
    z = star + a**L * (x - star) + (1 - a) * geometric @ (x - star)
    moved = RULES["entropy-sgd"]().iterate(state)[0].numpy()
    assert np.allclose(moved, x - outer_lr * (x - z), rtol=1e-9, atol=1e-10)
    # HJ takes the last inner iterate instead: y_L of the formula.
    del hyper["averaging"], hyper["temperature"]
    _, state = descend(RULES["hj"](), x, lambda t, y: A @ y, hyper, L)
    y = star + power @ (x - star)
    assert np.allclose(state["x"][0].numpy(), x - outer_lr * (x - y), rtol=1e-10, atol=1e-10)


@settings(max_examples=20)
@given(st.integers(0, 10**6), RATES, st.floats(1e-2, 1e6), st.floats(0, 0.95), st.floats(0.05, 1), st.floats(0, 0.01))
def test_t11_one_inner_step_is_sgd_whatever_gamma(
    seed: int, rate: float, gamma: float, a: float, outer_lr: float, weight_decay: float
) -> None:
    """With step size η_x (1 − a) η_y, for all of 30 stochastic gradients."""
    A, x = quadratic(seed)
    noise = np.random.default_rng(seed).normal(size=(30, 3))
    hyper = {**PLAIN, "weight_decay": weight_decay}
    relaxed = tensors(
        {**hyper, "inner_lr": rate, "gamma": gamma, "averaging": a, "inner_steps": 1, "outer_lr": outer_lr}
    )
    plain = tensors({"lr": outer_lr * (1 - a) * rate, "momentum": 0.0, "weight_decay": weight_decay})
    points, _ = descend(RULES["entropy-sgd"](), x, lambda t, y: A @ y + noise[t], relaxed, 30)
    expected, _ = descend(RULES["sgd"](), x, lambda t, y: A @ y + noise[t], plain, 30)
    assert np.allclose(points, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", ["entropy-sgd", "hj"])
@settings(max_examples=10)
@given(st.integers(0, 10**6), st.floats(0.2, 20))
def test_t11_a_long_inner_loop_is_the_prox_step(name: str, seed: int, gamma: float) -> None:
    """x ← (I + γA)^{-1}(x − γc), twice in a row, for f = ½ xᵀA x + cᵀx."""
    A, x = quadratic(seed, low=0.3)
    c, L = np.array([0.3, -1.0, 0.5]), 400
    rate = 1 / (3 + 1 / gamma)
    hyper = tensors({**PLAIN, "inner_lr": rate, "gamma": gamma, "averaging": 0.0, "inner_steps": L, "outer_lr": 1.0})
    _, state = descend(RULES[name](), x, lambda t, y: A @ y + c, hyper, 2 * L)
    for _ in range(2):
        x = np.linalg.solve(np.eye(3) + gamma * A, x - gamma * c)
    assert np.allclose(state["x"][0].numpy(), x, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["entropy-sgd", "hj"])
@settings(max_examples=15)
@given(st.integers(0, 10**6), RATES, st.floats(0, 0.95), st.floats(0.05, 1), st.integers(1, 6), st.floats(0, 0.01))
def test_t11_without_coupling_it_is_lookahead_bit_for_bit(
    name: str, seed: int, rate: float, momentum: float, outer_lr: float, L: int, weight_decay: float
) -> None:
    A, x = quadratic(seed)
    noise = np.random.default_rng(seed).normal(size=(30, 3))
    shared = {"inner_lr": rate, "momentum": momentum, "weight_decay": weight_decay, "inner_steps": L}
    fast = tensors({**shared, "outer_lr": outer_lr})
    free = {**fast, **tensors({"gamma": math.inf, "averaging": 0.0, "outer_momentum": 0.0, "temperature": 0.0})}
    points, state = descend(RULES[name](), x, lambda t, y: A @ y + noise[t], free, 30)
    expected, expected_state = descend(RULES["lookahead"](), x, lambda t, y: A @ y + noise[t], fast, 30)
    assert np.array_equal(points, expected)
    assert torch.equal(state["x"], expected_state["x"]) and torch.equal(state["y"], expected_state["y"])


@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_hj_is_entropy_sgd_at_temperature_zero_without_averaging(seed: int) -> None:
    """Bit for bit, with momentum in both loops and a scheduled γ."""
    population = members("hj", 3, 4, 30, seed)
    queries, iterates, _ = trace("hj", population, 30)
    zero = torch.zeros(3, 1, dtype=torch.float64)
    relaxed = Members(
        {**population.hyper, "averaging": zero, "temperature": zero},
        population.seeds,
        population.x,
        population.A,
        population.noise,
    )
    others, other_iterates, _ = trace("entropy-sgd", relaxed, 30)
    assert all(torch.equal(a, b) for a, b in zip(queries + iterates, others + other_iterates, strict=True))


# HJ implicit.


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.floats(0.05, 1.5), st.floats(0.5, 0.9), st.floats(0, 0.1))
def test_the_fixed_point_of_hj_implicit(seed: int, gamma: float, b: float, weight_decay: float) -> None:
    """p = (I + γA)^{-1}(Ax + c), the gradient of the Moreau envelope, with A + wd I for A."""
    A, x = quadratic(seed, high=1.0)
    assume(gamma * (1 + weight_decay) < 0.8 * (1 + b) / (1 - b))
    c, L = np.array([0.2, 0.4, -0.1]), 300
    hyper = tensors(
        {"lr": 0.3, "inner_steps": L, "momentum": 0, "averaging": b, "gamma": gamma, "weight_decay": weight_decay}
    )
    _, state = descend(RULES["hj-implicit"](), x, lambda t, y: A @ y + c, hyper, L + 1)
    decayed = A + weight_decay * np.eye(3)
    p = np.linalg.solve(np.eye(3) + gamma * decayed, decayed @ x + c)
    assert np.allclose(state["p"][0].numpy(), p, rtol=1e-10, atol=1e-11)
    assert np.allclose(state["x"][0].numpy(), x - 0.3 * p, rtol=1e-10, atol=1e-11)
    # It is the backward Euler step: p = ∇f(x − γp) + wd (x − γp).
    assert np.allclose(p, decayed @ (x - gamma * p) + c, rtol=1e-10, atol=1e-11)


@settings(max_examples=30)
@given(st.floats(0, 0.95), st.floats(0.02, 1.5), st.floats(0.1, 10), st.integers(1, 40))
def test_the_rate_of_hj_implicit(b: float, share: float, curvature: float, L: int) -> None:
    """Its error is multiplied by b − (1 − b) γλ a gradient: exactly, whether that contracts or not."""
    gamma = share * (1 + b) / (1 - b) / curvature
    hyper = tensors({"lr": 1, "inner_steps": L, "momentum": 0, "averaging": b, "gamma": gamma, "weight_decay": 0})
    _, state = descend(RULES["hj-implicit"](), np.ones(1), lambda t, y: curvature * y, hyper, L + 1)
    fixed = curvature / (1 + gamma * curvature)
    error = (curvature - fixed) * (b - (1 - b) * gamma * curvature) ** L
    scale = max(1.0, curvature) * max(1.0, abs(b - (1 - b) * gamma * curvature) ** L)
    assert float(state["p"]) - fixed == pytest.approx(error, rel=1e-6, abs=1e-10 * scale)


@pytest.mark.parametrize("b", [0.0, 0.5, 0.75, 0.9])
def test_hj_implicit_contracts_just_below_its_limit_and_not_just_above(b: float) -> None:
    limit = (1 + b) / (1 - b)
    errors = {}
    for share in (0.98, 1.02):
        for L in (200, 800):
            hyper = {"lr": 1.0, "inner_steps": L, "momentum": 0, "averaging": b, "weight_decay": 0}
            now = tensors({**hyper, "gamma": share * limit / 2.0})
            _, state = descend(RULES["hj-implicit"](), np.ones(1), lambda t, y: 2.0 * y, now, L + 1)
            errors[share, L] = abs(float(state["p"]) - 2 / (1 + share * limit))
    assert errors[0.98, 800] < 1e-2 * errors[0.98, 200]
    assert errors[1.02, 800] > 1e2 * errors[1.02, 200]


def test_hj_implicit_at_its_defaults_contracts_where_its_docstring_says() -> None:
    """γ = 1, b = 0.75: curvatures below 7."""
    values = defaults(RULES["hj-implicit"].wide)
    b, gamma = float(values["averaging"]), float(values["gamma_start"])
    assert (1 + b) / (1 - b) / gamma == pytest.approx(7.0)


# HEAT.


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.floats(0, 10), st.sampled_from([2, 6, 20]), st.floats(0, 0.9))
def test_heat_on_a_quadratic_is_sgd(seed: int, sigma: float, L: int, momentum: float) -> None:
    """Antithetic pairs cancel what is linear: the smoothed gradient is the gradient, however wide the Gaussian."""
    A, x = quadratic(seed)
    shared = {"lr": 0.1, "momentum": momentum, "weight_decay": 0.01}
    points, state = descend(
        RULES["heat"](), x, lambda t, y: A @ y + 0.5, tensors({**shared, "sigma": sigma, "inner_steps": L}), 5 * L
    )
    _, plain = descend(RULES["sgd"](), x, lambda t, y: A @ y + 0.5, tensors(shared), 5)
    assert np.allclose(state["x"].numpy(), plain["x"].numpy(), rtol=1e-11, atol=1e-12 * (1 + sigma))
    # The pairs are about x, and every pair has noise of its own.
    middle = (np.array(points[0:L:2]) + np.array(points[1:L:2])) / 2
    assert np.allclose(middle, x, rtol=1e-12, atol=1e-13 * (1 + sigma))
    if sigma > 1e-3:
        assert len({point[0] for point in points[:L]}) == L


def test_a_pair_of_heat_never_straddles_two_outer_steps() -> None:
    """An odd L, which a drop-in optimizer accepts, leaves its last query unpaired; the next step starts a new pair."""
    hyper = tensors({"lr": 0.0, "momentum": 0.0, "weight_decay": 0.0, "sigma": 0.5, "inner_steps": 3})
    points, _ = descend(RULES["heat"](), np.zeros(4), lambda t, y: y, hyper, 6)
    for first in (0, 3):
        assert np.array_equal(points[first], -points[first + 1])
    assert len({abs(point[0]) for point in points}) == 4  # two pairs and two without a partner


def test_the_mean_of_an_inner_loop_that_returns_to_x_is_a_mean_of_gradients() -> None:
    """The heat equation of the research code: at γ = η_y, m = 0, each y is one gradient step and one ξ from x."""
    values = {"gamma": 0.1, "inner_lr": 0.1, "inner_steps": 7, "outer_lr": 0.4, "averaging": 0.75, "temperature": 0.2}
    x, gradients, rule = np.array([0.3, -1.0, 2.0]), list[Vector](), EntropySGD(uniform_average=True)

    def gradient(t: int, y: Vector) -> Vector:
        gradients.append(np.sin(3 * y) + t)
        return gradients[-1]

    points, state = descend(rule, x, gradient, tensors({**PLAIN, **values}), 7)
    assert np.array_equal(points[0], x)
    noise = [splitmix.noise(0, t, 3) * math.sqrt(2 * 0.1 * 0.2) for t in range(7)]
    for before, xi, point in zip(gradients, noise, points[1:], strict=False):
        assert np.allclose(point, x - 0.1 * before + xi, rtol=1e-12, atol=1e-12)
    step = 0.4 * (0.1 * np.mean(gradients, axis=0) - np.mean(noise, axis=0))
    assert np.allclose(state["x"][0].numpy(), x - step, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("k", "sigma"), [(1.0, 0.7), (2.0, 0.5), (5.0, 0.1), (3.0, 0.8)])
def test_heat_damps_a_cosine_by_its_gaussian_factor(k: float, sigma: float) -> None:
    """T9: f = cos(kx) becomes exp(−k²σ²/2) cos(kx); the mean over 20,000 draws, within standard errors."""
    K, x0, rule = 4000, 0.4, RULES["heat"]()
    x = torch.full((K, 5), x0, dtype=torch.float64)
    hyper = tensors({"lr": 1.0, "momentum": 0.0, "weight_decay": 0.0, "sigma": sigma, "inner_steps": 4})
    hyper = {key: value.expand(K, 1) for key, value in hyper.items()}
    state = rule.init(x, torch.arange(K)[:, None])
    for _ in range(4):
        points = rule.query(state, hyper).points
        state = rule.update(state, -k * torch.sin(k * points), torch.zeros(K, 1), hyper)
    gradients = (x - state["x"]).numpy()
    expected = -k * math.exp(-(k**2) * sigma**2 / 2) * math.sin(k * x0)
    error = gradients.std() / gradients.size**0.5
    assert abs(gradients.mean() - expected) < 4 * error
    assert error < 0.02 * k  # sharp enough to tell the factor from 1
