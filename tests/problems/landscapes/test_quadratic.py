"""Quadratics against numpy: values, gradients, spectrum and the covariance of the noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relaxbench.problems import problem
from relaxbench.problems.landscapes.quadratic import Quadratic
from relaxbench.training.oracle import Oracle

CPU = torch.device("cpu")


@given(st.lists(st.floats(0, 1e3, width=32), min_size=1, max_size=12), st.integers(0, 10**6))
def test_value_gradient_and_spectrum_are_the_requested_ones(spectrum: list[float], seed: int) -> None:
    task = Quadratic(spectrum)
    A = task.matrix.double().numpy()
    largest = max(spectrum) or 1.0
    assert np.sort(np.linalg.eigvalsh(A)) == pytest.approx(np.sort(spectrum), abs=1e-5 * largest)
    x = np.random.default_rng(seed).normal(size=(1, len(spectrum)))
    batch = task.sampler([0], [0], 1, CPU).batch(torch.zeros(1, 1, dtype=torch.int64))
    grad, value = Oracle(task, "vectorized").gradient_on(torch.tensor(x), batch)
    assert value.item() == pytest.approx((x @ A @ x.T).item() / 2, rel=1e-4, abs=1e-5 * largest)
    assert grad[0].numpy() == pytest.approx((A @ x[0]), rel=1e-4, abs=1e-4 * largest)


def test_noise_is_unbiased_and_has_the_covariance_of_the_curvature() -> None:
    spectrum, sigma, draws = [4.0, 1.0, 0.25], 0.5, 20_000
    task = Quadratic(spectrum, sigma)
    x = torch.tensor([1.0, -2.0, 0.5]).double().expand(draws, 3)
    batch = task.sampler(range(draws), [0] * draws, 1, CPU).batch(torch.zeros(draws, 1, dtype=torch.int64))
    grads = Oracle(task, "vectorized").gradient_on(x, batch)[0].numpy()
    A = task.matrix.double().numpy()
    errors = grads.mean(0) - A @ x[0].numpy()
    assert np.all(np.abs(errors) <= 4 * grads.std(0) / draws**0.5)
    assert np.cov(grads.T) == pytest.approx(sigma**2 * A, abs=4 * sigma**2 * 4 * (2 / draws) ** 0.5)
    held_out = Oracle(task, "vectorized").measure(x[:1], "validation").loss.item()  # without noise
    assert held_out == pytest.approx(float(x[0] @ task.matrix.double() @ x[0]) / 2, rel=1e-5)


def test_draws_are_functions_of_seed_and_number() -> None:
    task = problem("quadratic-noisy")
    together = task.sampler([3, 2**62], [0, 7], 5, CPU).batch(torch.tensor([[4], [8]]))["draw"]
    for k, (seed, number) in enumerate(((3, 4), (2**62, 8))):
        assert torch.equal(task.sampler([seed], [0], 1, CPU).batch(torch.tensor([[number]]))["draw"][0], together[k])
    assert together.unique().numel() == together.numel()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "spectrum"),
        (([1.0, -1.0],), "spectrum"),
        (([float("nan")],), "spectrum"),
        (([1.0], -0.5), "noise = -0.5"),
        (([1.0], float("inf")), "noise"),
    ],
)
def test_impossible_parameters_are_refused(arguments: tuple[list[float], float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Quadratic(*arguments)
