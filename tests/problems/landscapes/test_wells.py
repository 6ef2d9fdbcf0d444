"""Functions with two wells, against the same formulas in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relaxbench.problems import Problem, problem
from relaxbench.problems.landscapes.wells import DoubleWell, GaussianWells
from relaxbench.training.oracle import Oracle

CPU = torch.device("cpu")


def value_and_gradient(task: Problem, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    K = len(points)
    batch = task.sampler(range(K), [0] * K, 1, CPU).batch(torch.zeros(K, 1, dtype=torch.int64))
    grad, value = Oracle(task, "vectorized").gradient_on(torch.tensor(points), batch)
    return value[:, 0].numpy(), grad.numpy()


@given(st.floats(-3, 3), st.floats(-0.38, 0.38))
def test_the_double_well_is_its_polynomial_with_minimum_0(x: float, tilt: float) -> None:
    task = DoubleWell(tilt)
    value, grad = value_and_gradient(task, np.array([[x]]))
    assert value + task.lowest == pytest.approx((x * x - 1) ** 2 / 4 + tilt * x, abs=1e-9)
    assert grad[0, 0] == pytest.approx(x * (x * x - 1) + tilt, abs=1e-9)
    line = np.linspace(-2, 2, 4001)[:, None]
    values = value_and_gradient(task, line)[0]
    assert values.min() == pytest.approx(0.0, abs=1e-6)
    wells = np.flatnonzero((values[1:-1] < values[:-2]) & (values[1:-1] < values[2:]))
    assert len(wells) == 2 or abs(tilt) > 0.37


def test_gaussian_wells_are_minus_the_logarithm_of_their_mixture() -> None:
    rng = np.random.default_rng(0)
    centres, widths, weights, beta = rng.normal(size=(3, 2)), [0.3, 0.8, 1.5], [1.0, 0.4, 0.2], 2.5
    task = GaussianWells(centres.tolist(), widths, weights, beta)
    points = rng.normal(size=(20, 2))
    apart = ((points[:, None] - centres) ** 2).sum(-1)
    parts = np.array(weights) * np.exp(-beta * apart / (2 * np.array(widths) ** 2))
    value, grad = value_and_gradient(task, points)
    assert value == pytest.approx(-np.log(parts.sum(1)) / beta, rel=1e-10)
    slope = (parts[..., None] * (points[:, None] - centres) / np.array(widths)[:, None] ** 2).sum(1) / parts.sum(1)[
        :, None
    ]
    assert grad == pytest.approx(slope, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", ["double-well", "gaussian-wells"])
def test_only_the_lower_well_is_good_enough(name: str) -> None:
    """The tolerance lies between the two minima, both of which attract some of the starts."""
    task = problem(name)
    x = torch.stack([task.init(seed) for seed in range(200)]).double().numpy()
    for _ in range(2_000):
        x = x - 0.05 * value_and_gradient(task, x)[1]
    assert np.abs(value_and_gradient(task, x)[1]).max() < 1e-6  # all have arrived
    values = value_and_gradient(task, x)[0]
    assert task.tolerance is not None
    share = float(np.mean(values <= task.tolerance))
    assert 0.1 < share < 0.9
    assert values[values > task.tolerance].min() > 5 * task.tolerance


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DoubleWell(0.5), r"tilt = 0\.5"),
        (lambda: DoubleWell(float("nan")), "tilt"),
        (lambda: GaussianWells(widths=(1.0,)), "as many of each"),
        (lambda: GaussianWells(widths=(1.0, 0.0)), "positive"),
        (lambda: GaussianWells(beta=-1.0), "positive"),
    ],
)
def test_impossible_parameters_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
