"""The theorem by particles, against the moments of their own numerical scheme (T4)."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch

from relaxbench.cli import tools
from relaxbench.theory.diffusion import control
from relaxbench.theory.expectation import Estimate, expect
from relaxbench.theory.grid import Grid
from relaxbench.theory.particles import Field
from relaxbench.theory.scenes import SCENES, scene, values

A, C, BETA, T = 0.8, 2.0, 1.5, 1.2  # f = ½A x², V = ½C x²


def moments(steps: int, controlled: bool) -> tuple[float, float]:
    """E V and ½ E Σ|α|² ds of the Euler–Maruyama scheme with α = p x: a recursion of second moments, no sampling."""
    ds, second, cost = T / steps, 1.0, 0.0
    for k in range(steps):
        shrunk = 1 - np.exp(-2 * A * (T - k * ds))
        p = 2 * A * C * (1 - shrunk) / (2 * A + C * shrunk) if controlled else 0.0
        cost += 0.5 * ds * p**2 * second
        second = (1 - ds * (A + p)) ** 2 * second + ds / BETA
    return 0.5 * C * second, cost


def test_t4_particles_have_the_moments_of_their_scheme_and_the_inequality_holds() -> None:
    steps = 60
    found = expect(replace(scene("quadratic"), steps=steps), 100_000, seed=1)
    plain, _ = moments(steps, controlled=False)
    controlled, cost = moments(steps, controlled=True)
    grid_error = 1e-3 * cost  # of the interpolated control
    assert abs(found.plain.mean - plain) < 4 * found.plain.error
    assert abs(found.controlled.mean - controlled) < 4 * found.controlled.error + grid_error
    assert abs(found.cost.mean - cost) < 4 * found.cost.error + grid_error
    assert abs(found.slack.mean - (plain - cost - controlled)) < 4 * found.slack.error + grid_error
    assert found.holds is True and found.slack.mean > 10 * found.slack.error
    assert found.gradients == 2 * 100_000 * steps
    # With common noise, the slack has a smaller error than the two losses.
    assert found.slack.error < 0.7 * np.hypot(found.plain.error, found.controlled.error)
    # And the scheme tends to the closed form.
    assert moments(4000, True) == pytest.approx((0.206372, 0.106556), abs=2e-4)


@pytest.mark.parametrize("name", SCENES)
def test_on_every_landscape_particles_and_grid_agree(name: str) -> None:
    """Up to four standard errors plus 2 % of a mean for the bias of the time step."""
    found = expect(scene(name), 4000, seed=2)
    exact = found.exact
    for estimate, truth in (
        (found.plain, exact.plain_loss), (found.cost, exact.cost), (found.controlled, exact.controlled_loss)
    ):  # fmt: skip
        assert abs(estimate.mean - truth) < 4 * estimate.error + 0.02 * truth
    assert exact.slack > 0 and found.slack.mean > -4 * found.slack.error
    edge = exact.grid.edge
    assert exact.plain[:, edge].sum(axis=1).max() < 1e-4  # the walls are far enough


def test_the_particles_are_those_of_the_seed() -> None:
    small = replace(scene("double-well"), steps=20)
    first, again, other = (expect(small, 50, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first.at_end, again.at_end, strict=True))
    assert not np.array_equal(first.at_end[0], other.at_end[0])
    few = expect(small, 10, seed=1)  # a particle does not depend on how many there are
    assert np.array_equal(few.at_end[1], first.at_end[1][:10])


def test_the_field_is_the_gradient_between_the_points() -> None:
    """In the plane, on u = sin(x) cos(2y) (1 + s): linear interpolation of central differences, errors of order h²."""
    grid = Grid.box([-1.0, -1.0], [1.0, 1.5], [81, 101])
    x, y = grid.points.T
    solved = control(np.zeros(len(x)), np.zeros(len(x)), grid, 1.0, 1.0, 0, 4)
    solved = replace(solved, value=(1 + solved.times[:, None]) * np.sin(x) * np.cos(2 * y))
    field = Field(solved)
    where = torch.tensor(np.random.default_rng(0).uniform(-0.9, 0.9, (50, 2)))
    a, b = where.T.numpy()
    for s in (0.0, 0.1, 0.6, 1.0):
        expected = (1 + s) * np.stack([np.cos(a) * np.cos(2 * b), -2 * np.sin(a) * np.sin(2 * b)], axis=1)
        assert field.at(where, s).numpy() == pytest.approx(expected, abs=5e-3)
    outside = field.at(torch.tensor([[9.0, 0.0], [-9.0, 9.0]]).double(), 0.5)
    corners = field.at(torch.tensor([[1.0, 0.0], [-1.0, 1.5]]).double(), 0.5)
    assert torch.allclose(outside, corners)


def test_nothing_is_claimed_within_the_error_bars() -> None:
    found = expect(replace(scene("double-well"), steps=10), 10)
    for mean, holds in ((1.0, True), (0.1, None), (-0.1, None), (-1.0, False)):
        assert replace(found, slack=Estimate(mean, 0.1)).holds is holds


def test_a_mean_has_its_standard_error() -> None:
    found = Estimate.of(np.array([1.0, 2.0, 3.0, 4.0]))
    assert found.mean == 2.5 and found.error == pytest.approx(np.sqrt(5 / 3) / 2)
    assert found.half == pytest.approx(1.96 * found.error, rel=1e-4)


def test_fewer_than_two_particles_are_refused_and_the_command_has_enough() -> None:
    with pytest.raises(ValueError, match="particles = 1"):
        expect(scene("quadratic"), 1)
    assert inspect.signature(tools.theory).parameters["particles"].default >= 100_000


def test_values_equal_the_loss_of_the_problem() -> None:
    assert values(scene("quadratic").make())(np.array([[3.0]])) == pytest.approx(0.4 * 9)
