"""Smoothed landscapes against closed forms (T1–T3, T5–T9 of the mathematics) and against their own equations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaxbench.problems.landscapes.landscape import Rugged1D
from relaxbench.problems.landscapes.wells import DoubleWell, GaussianWells
from relaxbench.theory.grid import Array, Function, Grid
from relaxbench.theory.pde import heat, inviscid, viscous, viscous_value
from relaxbench.theory.scenes import values

WELL = values(DoubleWell(tilt=0.0))  # (y² − 1)²/4
LINE = Grid.box([-6.0], [6.0], [12001])


def at(*points: float) -> Array:
    return np.array(points, dtype=float)[:, None]


def quadratic(A: Array, b: Array) -> Function:
    return lambda y: 0.5 * np.einsum("ma,ab,mb->m", y, A, y) + y @ b


def around(A: Array, t: float, beta: float, x: Array, prox: Array, n: int) -> Grid:
    """A grid that holds nine standard deviations of y, and the minimizer."""
    spread = np.sqrt(np.linalg.eigvalsh(np.linalg.inv(A + np.eye(n) / t)).max() / beta)
    count = {1: 601, 2: 101}[n]
    return Grid.box(list(prox[0] - 9 * spread), list(prox[0] + 9 * spread), [count] * n)


CASES = (st.integers(0, 10**6), st.floats(0.05, 3.0), st.floats(0.3, 30.0))


@pytest.mark.parametrize("n", [1, 2])
@settings(max_examples=25)
@given(*CASES)
def test_t1_closed_forms_on_a_quadratic(n: int, seed: int, t: float, beta: float) -> None:
    """Also with directions of negative curvature, as long as I + tA is positive."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(n, n)))[0]
    spectrum = rng.uniform(-0.8 / t, 3, n)
    A, b, x = basis * spectrum @ basis.T, rng.normal(size=n), rng.normal(size=(1, n))
    f, one = quadratic(A, b), np.eye(n)
    prox = (x - t * b) @ np.linalg.inv(one + t * A)
    grid = around(A, t, beta, x, prox, n)

    low = inviscid(f, x, t, grid)
    envelope = f(prox) + ((x - prox) ** 2).sum() / (2 * t)
    assert low.prox == pytest.approx(prox, abs=1e-6 * (1 + np.abs(prox).max()))
    assert low.value == pytest.approx(envelope, rel=1e-9, abs=1e-9)

    u = viscous(f, x, t, beta, grid)
    determinant = np.linalg.slogdet(one + t * A)[1]
    assert u.value == pytest.approx(envelope + determinant / (2 * beta), rel=1e-9, abs=1e-9)
    slope = (x @ A + b) @ np.linalg.inv(one + t * A)
    assert u.gradient == pytest.approx(slope, rel=1e-8, abs=1e-8 / t)
    assert low.gradient == pytest.approx(slope, abs=1e-6 * (1 + np.abs(prox).max()) / t)
    assert u.hessian[0] == pytest.approx(A @ np.linalg.inv(one + t * A), rel=1e-7, abs=1e-8 / t)

    v = heat(f, x, t, beta)
    assert v.value == pytest.approx(f(x) + t * np.trace(A) / (2 * beta), rel=1e-10, abs=1e-10)
    assert v.gradient == pytest.approx(x @ A + b, rel=1e-8, abs=1e-8)
    assert v.hessian[0] == pytest.approx(A, rel=1e-6, abs=1e-7)
    assert u.value <= v.value + 1e-10


@pytest.mark.parametrize(("t", "beta"), [(0.1, 2.0), (0.5, 1.0), (3.0, 50.0), (1.0, 20.0)])
def test_t2_curvature_is_at_most_harmonic(t: float, beta: float) -> None:
    """D²f ≤ C makes D²u ≤ 1/(1/C + t); C = 4.05 here."""
    f, C = values(Rugged1D()), 0.05 + 4
    x = np.linspace(-8, 8, 321)[:, None]
    u = viscous(f, x, t, beta, Grid.box([-20.0], [20.0], [8001]))
    assert u.hessian.max() <= 1 / (1 / C + t) + 1e-9
    assert u.hessian.max() > 0.2 / (1 / C + t)  # not met by flatness alone


@given(st.floats(0.05, 5.0))
@settings(max_examples=20)
def test_t3_wells_widen(t: float) -> None:
    """At a minimum of f with curvature λ the envelope has curvature λ/(1 + tλ): 2 at the bottom of the double well."""
    h = 1e-2
    u = inviscid(WELL, at(1 - h, 1.0, 1 + h), t, Grid.box([0.0], [2.0], [401])).value
    curvature = (u[0] - 2 * u[1] + u[2]) / h**2
    assert curvature == pytest.approx(2 / (1 + 2 * t), rel=2e-3)


@pytest.mark.parametrize(
    ("x", "t", "beta", "u", "slope", "curvature"),
    [
        (0.5, 0.3, 4, 0.1236904263, -0.2636104755, 0.1101013440),
        (0.2, 1, 4, 0.1510727949, -0.0628544593, -0.2424603326),
        (-0.8, 0.1, 50, 0.0296143794, 0.2581506660, 0.9496801643),
    ],
)
def test_t5_the_double_well(x: float, t: float, beta: float, u: float, slope: float, curvature: float) -> None:
    found = viscous(WELL, at(x), t, beta, LINE)
    assert found.value == pytest.approx(u, abs=1e-10)
    assert found.gradient[0] == pytest.approx(slope, abs=1e-10)
    assert found.hessian[0, 0] == pytest.approx(curvature, abs=1e-9)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.floats(0.02, 2.0), st.sampled_from([1, 2]))
def test_t6_gaussian_wells_stay_gaussian_wells(seed: int, t: float, n: int) -> None:
    rng = np.random.default_rng(seed)
    wells = GaussianWells(
        rng.uniform(-1, 1, (3, n)).tolist(), rng.uniform(0.3, 1.0, 3).tolist(), rng.uniform(0.2, 1.0, 3).tolist(), 2.0
    )
    x = rng.uniform(-1.5, 1.5, (5, n))
    grid = Grid.box([-8.0] * n, [8.0] * n, [{1: 4001, 2: 201}[n]] * n)
    assert viscous(values(wells), x, t, 2.0, grid).value == pytest.approx(values(wells.smoothed(t))(x), abs=1e-9)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("t", [0.02, 0.5])
def test_one_dimension_after_the_other_gives_the_same(n: int, t: float) -> None:
    rng = np.random.default_rng(n)
    wells = GaussianWells(rng.uniform(-1, 1, (3, n)).tolist(), [0.3, 0.5, 1.0], [0.2, 1.0, 0.6], 2.0)
    points = Grid.box([-1.0, -1.5][:n], [1.0, 0.5][:n], [5, 4][:n])
    grid = Grid.box([-8.0] * n, [8.0, 7.0][:n], [161, 141][:n])
    expected = viscous(values(wells), points.points, t, 2.0, grid).value
    assert viscous_value(values(wells), points, t, 2.0, grid) == pytest.approx(expected, abs=1e-12)


def test_t6_the_deeper_well_changes_at_the_known_time() -> None:
    """Widths 0.05 and 0.5, weights 1 and 0.6 in one dimension: at t* = 0.00457143. So T8: the minimizer is not kept."""
    wells, star = GaussianWells(((-1.0,), (1.0,)), (0.05, 0.5), (1.0, 0.6), 20.0), 0.00457143
    weights = wells.smoothed(star).weights
    assert weights[0] == pytest.approx(float(weights[1]), rel=1e-6)
    grid = Grid.box([-4.0], [4.0], [16001])
    for t, narrow_is_deeper in ((0.98 * star, True), (1.02 * star, False)):
        left, right = viscous(values(wells), at(-1, 1), t, 20.0, grid).value
        assert (left < right) == narrow_is_deeper


def test_t7_the_envelope_of_the_absolute_value_is_huber_s_function() -> None:
    def f(y: Array) -> Array:
        return np.abs(y[:, 0])

    x, t = np.linspace(-3, 3, 61)[:, None], 0.7
    huber = np.where(np.abs(x) <= t, x**2 / (2 * t), np.abs(x) - t / 2)[:, 0]
    assert inviscid(f, x, t, LINE).value == pytest.approx(huber, abs=1e-12)
    assert viscous(f, at(2.0), t, 3.0, LINE).value == pytest.approx(1.65056927, abs=1e-7)


@pytest.mark.parametrize("t", [0.1, 1.0, 10.0])
def test_t8_the_envelope_keeps_the_minimum_and_its_place(t: float) -> None:
    f, x = values(Rugged1D()), np.linspace(-12, 12, 2401)[:, None]
    u = inviscid(f, x, t, Grid.box([-14.0], [14.0], [5601])).value
    assert u.min() == pytest.approx(0.0, abs=1e-12) and x[u.argmin(), 0] == pytest.approx(0.0, abs=1e-9)
    assert np.all(u <= f(x) + 1e-12)


@given(st.floats(0.1, 3.0), st.floats(0.1, 2.0), st.floats(0.5, 20.0), st.floats(-3, 3))
def test_t9_heat_damps_a_wave(k: float, t: float, beta: float, x: float) -> None:
    v = heat(lambda y: np.cos(k * y[:, 0]), at(x), t, beta)
    damped = np.exp(-(k**2) * t / (2 * beta))
    assert v.value == pytest.approx(damped * np.cos(k * x), abs=1e-10)
    assert v.gradient[0, 0] == pytest.approx(-k * damped * np.sin(k * x), abs=1e-9)
    assert v.hessian[0, 0, 0] == pytest.approx(-(k**2) * damped * np.cos(k * x), abs=1e-8)


@pytest.mark.parametrize("beta", [1.0, 5.0])
def test_each_smoothing_solves_its_equation(beta: float) -> None:
    """Differences in time and the derivatives in space: u_t = −½u_x² + u_xx/2β; without either term for the others."""
    x, t, dt = np.linspace(-1.6, 1.6, 17)[:, None], 0.4, 1e-4
    u = viscous(WELL, x, t, beta, LINE)
    rate = (viscous(WELL, x, t + dt, beta, LINE).value - viscous(WELL, x, t - dt, beta, LINE).value) / (2 * dt)
    assert rate == pytest.approx(-0.5 * u.gradient[:, 0] ** 2 + u.hessian[:, 0, 0] / (2 * beta), abs=1e-6)
    v = heat(WELL, x, t, beta)
    rate = (heat(WELL, x, t + dt, beta).value - heat(WELL, x, t - dt, beta).value) / (2 * dt)
    assert rate == pytest.approx(v.hessian[:, 0, 0] / (2 * beta), abs=1e-6)
    smooth = x[np.abs(x[:, 0]) > 0.2]  # at 0 two minimizers meet
    w = inviscid(WELL, smooth, t, LINE)
    rate = (inviscid(WELL, smooth, t + dt, LINE).value - inviscid(WELL, smooth, t - dt, LINE).value) / (2 * dt)
    assert rate == pytest.approx(-0.5 * w.gradient[:, 0] ** 2, abs=1e-5)


def test_local_entropy_tends_to_the_landscape_and_to_the_envelope() -> None:
    x = np.linspace(-1.5, 1.5, 31)[:, None]
    fine = Grid.box([-2.5], [2.5], [20001])
    small = 1e-4  # u = f − (t/2)|f'|² + (t/2β) f'' + O(t²)
    f, slope, bend = WELL(x), (x**3 - x)[:, 0], (3 * x**2 - 1)[:, 0]
    expected = f - small / 2 * slope**2 + small / 2 / 4 * bend
    assert viscous(WELL, x, small, 4.0, fine).value == pytest.approx(expected, abs=2e-7)
    cold = viscous(WELL, x, 0.3, 4000.0, fine).value  # β → ∞
    assert cold == pytest.approx(inviscid(WELL, x, 0.3, fine).value, abs=3e-4)


def test_bad_times_and_grids_are_refused() -> None:
    with pytest.raises(ValueError, match="t = 0"):
        viscous(WELL, at(0.0), 0.0, 1.0, LINE)
    with pytest.raises(ValueError, match="beta = -1"):
        heat(WELL, at(0.0), 1.0, -1.0)
    with pytest.raises(ValueError, match="t = nan"):
        inviscid(WELL, at(0.0), float("nan"), LINE)
    with pytest.raises(ValueError, match="too coarse"):
        viscous(WELL, at(0.5), 1e-8, 4.0, LINE)
    with pytest.raises(ValueError, match="too small"):
        viscous(WELL, at(0.5), 1.0, 0.1, Grid.box([0.0], [1.0], [101]))
    near = Grid.box([0.4], [0.6], [3])
    with pytest.raises(ValueError, match="beta = 0"):
        viscous_value(WELL, near, 1.0, 0.0, LINE)
    with pytest.raises(ValueError, match="too coarse"):
        viscous_value(WELL, near, 1e-8, 4.0, LINE)
    with pytest.raises(ValueError, match="too small"):
        viscous_value(WELL, near, 1.0, 0.1, Grid.box([0.0], [1.0], [101]))
    with pytest.raises(ValueError, match="too small"):
        inviscid(WELL, at(3.0), 0.1, Grid.box([2.5], [3.0], [101]))
    with pytest.raises(ValueError, match="low < high"):
        Grid.box([0.0], [0.0], [5])
    with pytest.raises(ValueError, match="3 points"):
        Grid.box([0.0], [1.0], [2])
