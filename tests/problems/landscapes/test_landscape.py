"""Functions whose values, gradients and minima are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import rosen, rosen_der
from torch import Tensor

from relaxbench.problems import Problem, problem
from relaxbench.problems.landscapes.landscape import ChainedRosenbrock, Rosenbrock, Rugged1D
from relaxbench.training.oracle import Oracle

CPU = torch.device("cpu")
COORDINATE = st.floats(-2, 2)


def value_and_gradient(task: Problem, x: list[float], draw: float = 1.0) -> tuple[float, list[float]]:
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    batch = {"draw": torch.tensor([draw], dtype=torch.float64)}
    loss = task.loss.value(task.outputs(task.unflatten(leaf), batch, True), batch)
    (grad,) = torch.autograd.grad(loss, leaf)
    return loss.item(), grad.tolist()


@given(COORDINATE, COORDINATE)
def test_rosenbrock_is_scipy_s(u: float, v: float) -> None:
    value, grad = value_and_gradient(Rosenbrock(), [u, v])
    assert value == pytest.approx(rosen([u, v]), rel=1e-12, abs=1e-12)
    assert grad == pytest.approx(rosen_der(np.array([u, v])).tolist(), rel=1e-11, abs=1e-11)


@given(COORDINATE, COORDINATE, st.floats(0.01, 3))
def test_noisy_rosenbrock_scales_the_valley_alone(u: float, v: float, epsilon: float) -> None:
    value, (du, dv) = value_and_gradient(problem("rosenbrock-noisy"), [u, v], epsilon)
    assert value == pytest.approx((1 - u) ** 2 + 100 * epsilon * (v - u * u) ** 2, rel=1e-9, abs=1e-12)
    assert du == pytest.approx(-2 * (1 - u) - 400 * epsilon * u * (v - u * u), rel=1e-9, abs=1e-9)
    assert dv == pytest.approx(200 * epsilon * (v - u * u), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", ["rosenbrock", "rosenbrock-noisy"])
def test_the_minimum_is_1_1_with_value_0_on_every_split(name: str) -> None:
    task = problem(name)
    for split in ("validation", "test"):
        batch = task.split(split, CPU)
        for point, expected in (([1.0, 1.0], 0.0), ([0.0, 0.0], 1.0), ([0.0, 1.0], 101.0)):
            outputs = task.outputs(task.unflatten(torch.tensor(point)), batch, False)
            assert task.loss.value(outputs, batch).item() == pytest.approx(expected)


def draws(task: Problem, seed: int, count: int) -> Tensor:
    sampler = task.sampler([seed], [0], count, CPU)
    return torch.cat([sampler.batch(torch.tensor([[n]]))["draw"] for n in range(count)])[:, 0]


def test_noise_is_uniform_with_the_right_mean_and_its_gradient_unbiased() -> None:
    task = problem("rosenbrock-noisy")
    epsilon = torch.cat([draws(task, seed, 100) for seed in range(40)]).double()
    n = len(epsilon)
    assert epsilon.min() > 0 and epsilon.max() < 3
    assert abs(epsilon.mean().item() - 1.5) < 4 * math.sqrt(3**2 / 12 / n)
    assert epsilon.var().item() == pytest.approx(3**2 / 12, rel=0.06)
    x = [-0.5, 0.8]
    grads = torch.tensor([value_and_gradient(task, x, e)[1] for e in epsilon.tolist()], dtype=torch.float64)
    mean = value_and_gradient(task, x, 1.5)[1]
    errors = (grads.mean(0) - torch.tensor(mean, dtype=torch.float64)).abs()
    assert (errors <= 4 * grads.std(0) / math.sqrt(n) + 1e-12).all()


def test_draws_are_functions_of_seed_and_number() -> None:
    task = problem("rosenbrock-noisy")
    seeds = [3, 2**62, 5]
    together = task.sampler(seeds, [0, 7, 9], 5, CPU).batch(torch.tensor([[4], [8], [12]]))["draw"]
    assert together.shape == (3, 1)
    for k, (seed, number) in enumerate(zip(seeds, (4, 8, 12), strict=True)):
        assert torch.equal(task.sampler([seed], [0], 13, CPU).batch(torch.tensor([[number]]))["draw"][0], together[k])
    assert together.unique().numel() == 3
    # The deterministic function draws nothing.
    assert torch.equal(draws(Rosenbrock(), 3, 5), torch.ones(5))


def test_rosenbrock_starts_on_the_diagonal_around_a_quarter() -> None:
    starts = torch.stack([Rosenbrock().init(seed) for seed in range(500)])
    assert torch.equal(starts[:, 0], starts[:, 1])
    shift = starts[:, 0] + 0.25
    assert shift.min() > -0.25 and shift.max() < 0.25
    assert shift.min() < -0.24 and shift.max() > 0.24 and abs(shift.mean()) < 0.03
    assert torch.equal(starts[7], Rosenbrock().init(7))
    assert not torch.equal(Rosenbrock().init(0), Rosenbrock().init(2**40))


@given(st.floats(-15, 15))
def test_rugged_is_a_parabola_with_waves(x: float) -> None:
    value, (slope,) = value_and_gradient(Rugged1D(), [x])
    assert value == pytest.approx(x * x / 40 + 1 - math.cos(2 * x), rel=1e-12, abs=1e-12)
    assert slope == pytest.approx(x / 20 + 2 * math.sin(2 * x), rel=1e-12, abs=1e-12)


def test_rugged_has_many_wells_and_one_global_minimum() -> None:
    x = np.linspace(-12, 12, 240_001)
    f = x**2 / 40 + 1 - np.cos(2 * x)
    wells = np.flatnonzero((f[1:-1] < f[:-2]) & (f[1:-1] < f[2:])) + 1
    assert len(wells) >= 7
    assert abs(x[f.argmin()]) < 1e-3
    others = np.sort(f[wells])
    task = Rugged1D()
    assert task.tolerance is not None and others[0] < task.tolerance < others[1]  # only the best well counts


def test_rugged_starts_anywhere() -> None:
    starts = torch.cat([Rugged1D().init(seed) for seed in range(1000)])
    assert starts.min() > -12 and starts.max() < 12
    assert starts.min() < -11.5 and starts.max() > 11.5
    counts = torch.histc(starts, bins=6, min=-12, max=12)
    assert counts.min() > 120


@pytest.mark.parametrize("name", ["rosenbrock", "rosenbrock-noisy", "rugged-1d"])
def test_landscapes_have_no_data_and_count_gradients(name: str) -> None:
    task = problem(name)
    assert task.fingerprint() == "none" and task.test_examples is None and task.data == "none"
    assert task.worst_metric == task.budget and task.tolerance is not None
    assert task.correct(torch.zeros(1), {}) is None
    start = task.init(0)
    assert start.shape == (task.size,) and start.dtype == torch.float32
    for low, high in task.space.values():
        assert 0 < low < high
    assert task.space is not problem(name).space  # a copy: no instance changes another


@pytest.mark.parametrize("name", ["rosenbrock", "rosenbrock-noisy", "rugged-1d"])
def test_every_start_is_better_than_the_worst_value(name: str) -> None:
    task = problem(name)
    batch = task.split("validation", CPU)
    for seed in range(50):
        outputs = task.outputs(task.unflatten(task.init(seed)), batch, False)
        assert task.loss.value(outputs, batch).item() < task.worst


@pytest.mark.parametrize("n", [2, 3, 10, 50])
def test_the_chained_function_is_scipy_s(n: int) -> None:
    task = ChainedRosenbrock(n)
    rng = np.random.default_rng(n)
    points = torch.tensor(rng.normal(size=(4, n)))
    batch = task.sampler(range(4), [0] * 4, 1, torch.device("cpu")).batch(torch.zeros(4, 1, dtype=torch.int64))
    grads, losses = Oracle(task, "vectorized").gradient_on(points, batch)
    for k in range(4):
        assert losses[k].item() == pytest.approx(rosen(points[k].numpy()), rel=1e-10)
        assert grads[k].numpy() == pytest.approx(rosen_der(points[k].numpy()), rel=1e-9, abs=1e-9)
    start = task.init(7)
    assert bool((start == start[0]).all()) and -0.5 <= float(start[0]) <= 0.0
