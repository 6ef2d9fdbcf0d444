"""Densities and controls on a grid, against closed forms, scipy's exponential, and the equations themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

from relaxbench.problems.landscapes.wells import DoubleWell, GaussianWells
from relaxbench.theory.diffusion import Control, control, flow, generator
from relaxbench.theory.grid import Array, Grid
from relaxbench.theory.scenes import values


def line(half: float, count: int) -> Grid:
    return Grid.box([-half], [half], [count])


def variance(density: Array, grid: Grid) -> float:
    x = grid.points[:, 0]
    mean = density @ x
    return float(density @ (x - mean) ** 2)


def test_t10_the_variance_of_a_quadratic_s_particles() -> None:
    """(1 − e^{−2λs})/(2λβ), with errors of order h²: halving h quarters them."""
    rate, beta, s = 1.3, 2.0, 0.7
    exact = (1 - np.exp(-2 * rate * s)) / (2 * rate * beta)
    errors = []
    for count in (121, 241, 481):
        grid = line(3.0, count)
        x = grid.points[:, 0]
        start = np.zeros(count)
        start[grid.nearest([0.5])] = 1.0
        density = flow(generator(rate * x**2 / 2, grid, beta).T.tocsr(), start, s, 3)[-1]
        assert density.sum() == pytest.approx(1.0, abs=1e-12)
        assert density @ x == pytest.approx(0.5 * np.exp(-rate * s), abs=grid.steps[0] ** 2)
        errors.append(abs(variance(density, grid) - exact))
    assert errors[-1] < 1e-4
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1) and errors[1] / errors[2] == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("n", [1, 2])
def test_t10_the_final_density_is_the_gibbs_density(n: int) -> None:
    """∝ exp(−2βf) exactly, on any grid, because the chain is in detailed balance."""
    beta = 1.5
    grid = line(2.0, 81) if n == 1 else Grid.box([-2.0, -1.5], [2.0, 1.5], [33, 25])
    task = DoubleWell(0.1) if n == 1 else GaussianWells(((-0.6, 0.0), (0.6, 0.0)), (0.4, 0.6))
    f = values(task)(grid.points)
    gibbs = np.exp(-2 * beta * f)
    gibbs /= gibbs.sum()
    rates = generator(f, grid, beta)
    assert gibbs @ rates == pytest.approx(np.zeros(len(f)), abs=1e-12 * abs(rates.diagonal()).max())
    start = np.zeros(len(f))
    start[0] = 1.0
    assert flow(rates.T.tocsr(), start, 60.0, 1)[-1] == pytest.approx(gibbs, rel=1e-6)


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.floats(0.01, 2.0))
def test_the_flow_is_the_matrix_exponential(seed: int, seconds: float) -> None:
    rng = np.random.default_rng(seed)
    grid = Grid.box([0.0, 0.0], [1.0, 2.0], [4, 5])
    rates, start = generator(rng.normal(size=20), grid, 1.0), rng.random(20)
    for Q in (rates, rates.T.tocsr()):
        found = flow(Q, start, seconds, 2)
        assert found[0] == pytest.approx(start)
        assert found[1] == pytest.approx(linalg.expm(seconds / 2 * Q.toarray()) @ start, rel=1e-9)
        assert found[2] == pytest.approx(linalg.expm(seconds * Q.toarray()) @ start, rel=1e-9)


def linear_quadratic(count: int) -> Control:
    grid = line(5.0, count)
    x = grid.points[:, 0]
    return control(0.4 * x**2, x**2, grid, 1.5, 1.2, grid.nearest([1.0]))


def test_t4_the_linear_quadratic_case_with_errors_that_quarter() -> None:
    exact = {"controlled_loss": 0.206372, "cost": 0.106556, "plain_loss": 0.502187}
    coarse, fine = linear_quadratic(201), linear_quadratic(401)
    for name, value in exact.items():
        errors = [getattr(found, name) - value for found in (coarse, fine)]
        extrapolated = (4 * getattr(fine, name) - getattr(coarse, name)) / 3
        assert extrapolated == pytest.approx(value, abs=2e-6)
        assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)
    a, c, beta, T = 0.8, 2.0, 1.5, 1.2
    shrunk = 1 - np.exp(-2 * a * T)
    p = 2 * a * c * np.exp(-2 * a * T) / (2 * a + c * shrunk)
    x = fine.grid.points[:, 0]
    value = 0.5 * p * x**2 + np.log(1 + c * shrunk / (2 * a)) / (2 * beta)
    inside = np.abs(x) < 2
    assert fine.value[0][inside] == pytest.approx(value[inside], abs=4e-4)


def test_the_control_solves_its_equation_and_its_density_follows_it() -> None:
    """The check uses differences in time and space only, neither the logarithm (Cole–Hopf) nor Doob's transform."""
    beta, T, pieces = 4.0, 1.0, 400
    grid = line(2.5, 401)
    x, h, ds = grid.points[:, 0], 5 / 400, T / pieces
    f = values(DoubleWell(0.1))(grid.points)
    slope = np.gradient(f, h)
    found = control(f, f, grid, beta, T, grid.nearest([1.0]), pieces)
    inside = slice(80, 321)  # |x| ≤ 1.5
    for at in (100, 200, 300):
        u = found.value[at]
        du, ddu = np.gradient(u, h), np.gradient(np.gradient(u, h), h)
        rate = (found.value[at + 1] - found.value[at - 1]) / (2 * ds)
        residual = -rate + slope * du + 0.5 * du**2 - ddu / (2 * beta)
        assert np.abs(residual[inside]).max() < 5e-3 * np.abs(rate[inside]).max()
        density = found.controlled[at] / h
        moved = np.gradient(density * (slope + du), h) + np.gradient(np.gradient(density, h), h) / (2 * beta)
        changed = (found.controlled[at + 1] - found.controlled[at - 1]) / (2 * ds) / h
        assert changed[inside] == pytest.approx(moved[inside], abs=2e-2 * np.abs(changed).max())
    assert found.controlled.sum(axis=1) == pytest.approx(np.ones(pieces + 1), abs=1e-9)
    assert x[found.start] == pytest.approx(1.0)


def test_the_cost_equals_the_integral_of_the_control() -> None:
    """½ E∫|α|² as an integral over the controlled density, against u(x₀, 0) − E V."""
    found = linear_quadratic(401)
    h, ds = found.grid.steps[0], found.times[1]
    spent = [0.5 * rho @ np.gradient(u, h) ** 2 for u, rho in zip(found.value, found.controlled, strict=True)]
    assert np.trapezoid(spent, dx=ds) == pytest.approx(found.cost, rel=2e-3)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.floats(0.1, 10.0), st.floats(0.05, 3.0))
def test_the_theorem_holds_on_any_chain(seed: int, beta: float, seconds: float) -> None:
    rng = np.random.default_rng(seed)
    grid = line(1.0, 9)
    f, V = rng.normal(size=9), rng.normal(size=9)
    found = control(f, V, grid, beta, seconds, int(rng.integers(9)), 4)
    assert found.slack >= -1e-9
    assert found.controlled_loss <= found.plain_loss + 1e-9 and found.cost >= -1e-9
    constant = control(f, np.ones(9), grid, beta, seconds, 0, 4)  # nothing to be gained: no control
    assert constant.cost == pytest.approx(0, abs=1e-9) and constant.slack == pytest.approx(0, abs=1e-9)
