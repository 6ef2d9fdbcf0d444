"""The posterior of a stochastic differential equation: evidence, bound and paths against other ways to compute them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from relaxbench.problems import problem
from relaxbench.problems.science.posterior_paths import SWISH, PosteriorPaths, evidence, log_likelihood
from relaxbench.training.compatibility import why_not_vectorized
from relaxbench.training.oracle import Oracle

CPU = torch.device("cpu")


def task(name: str = "sde-posterior-small") -> PosteriorPaths:
    made = problem(name)
    assert isinstance(made, PosteriorPaths)
    return made


def at_end(mean: float, variance: float) -> tuple[float, float]:
    """E p(data | z) and E log p(data | z) for a normal z, by scipy."""
    prior, cauchy = stats.norm(mean, math.sqrt(variance)), stats.cauchy(scale=0.25)

    def likelihood(z: float) -> float:
        return float(cauchy.pdf(5 - z) * cauchy.pdf(-5 - z))

    def mean_of(value: Callable[[float], float]) -> float:
        peaks = (-5.0, 5.0, mean)
        return float(
            integrate.quad(lambda z: prior.pdf(z) * value(z), -40, 40, points=peaks, limit=400, epsabs=0, epsrel=1e-11)[
                0
            ]
        )

    return mean_of(likelihood), mean_of(lambda z: math.log(likelihood(z)))


def euler(steps: int, drift: float = 0.0) -> tuple[float, float]:
    """Mean and variance of z(T) under a constant u, step by step."""
    dt, mean, variance = 3 / steps, 0.0, 0.0
    for _ in range(steps):
        mean += (math.sqrt(2) * drift - 0.1 * mean) * dt
        variance = (1 - 0.1 * dt) ** 2 * variance + 2 * dt
    return mean, variance


@pytest.mark.parametrize("steps", [20, 50])
def test_the_evidence_is_that_of_scipy(steps: int) -> None:
    exact, _ = at_end(*euler(steps))
    assert evidence(steps) == pytest.approx(math.log(exact), abs=1e-8)
    if steps == 50:
        assert evidence(50) == pytest.approx(-10.347, abs=5e-4)


def test_the_likelihood_is_two_cauchy_densities() -> None:
    z = torch.linspace(-7, 7, 9, dtype=torch.float64)
    theirs = stats.cauchy(scale=0.25).logpdf(5 - z.numpy()) + stats.cauchy(scale=0.25).logpdf(-5 - z.numpy())
    assert np.allclose(log_likelihood(z).numpy(), theirs, rtol=1e-13)


@pytest.mark.parametrize("drift", [0.0, 0.7])
def test_the_bound_of_a_constant_drift_is_known(drift: float) -> None:
    """E log p(data | z(T)) − ½ u² T, within three standard errors of the paths; the gap is never below zero."""
    p = task()
    params = {name: torch.zeros_like(value) for name, value in p.unflatten(p.init(0)).items()}
    params["b2"] = torch.full_like(params["b2"], drift)
    loss = p.outputs(params, p.split("test", CPU), False)[:, 0]
    _, expected = at_end(*euler(p.steps, drift))
    exact = 0.5 * drift**2 * 3 - expected
    assert abs(float(loss.mean()) - exact) < 3 * float(loss.std()) / math.sqrt(len(loss))
    gap = p.score(loss[:, None], {})
    assert gap == pytest.approx(p.evidence + float(loss.mean())) and gap > 0


def test_a_path_is_eulers() -> None:
    p, seed = task(), 4
    params = p.unflatten(p.init(seed))
    noise = p.split("validation", CPU)["noise"][:3]
    outputs = p.outputs(params, {"noise": noise}, True)[:, 0]

    def net(z: float, t: float) -> float:
        a = torch.tensor([z / 3, t / 3], dtype=torch.float64)
        for layer in (0, 1):
            h = params[f"W{layer}"] @ a + params[f"b{layer}"]
            a = h * torch.sigmoid(h)
        return float(params["W2"] @ a + params["b2"])

    for path, loss in zip(noise, outputs, strict=True):
        z, effort, dt = 0.0, 0.0, 3 / p.steps
        for step, xi in enumerate(path.tolist()):
            u = net(z, step * dt)
            effort += 0.5 * u * u * dt
            z += (-0.1 * z + math.sqrt(2) * u) * dt + math.sqrt(2 * dt) * xi
        assert float(loss) == pytest.approx(
            effort - float(log_likelihood(torch.tensor(z, dtype=torch.float64))), rel=1e-10
        )


def test_descent_closes_a_part_of_the_gap_on_both_paths() -> None:
    p = task()
    start = torch.stack([p.init(seed) for seed in (0, 1)])
    numbers = torch.zeros(2, 1, dtype=torch.int64)
    batch = p.sampler([0, 1], [0, 0], 1, CPU).batch(numbers)
    assert batch["noise"].shape == (2, 32, p.steps) and not torch.equal(batch["noise"][0], batch["noise"][1])
    grads = [Oracle(p, path).gradient_on(start, batch)[0] for path in ("direct", "vectorized")]
    assert torch.allclose(*grads, rtol=1e-9, atol=1e-12) and why_not_vectorized(p) is None
    x = start.clone()
    for number in range(60):
        x -= 0.1 * Oracle(p, "vectorized").gradient_on(x, p.sampler([0, 1], [0, 0], 60, CPU).batch(numbers + number))[0]
    before, after = (Oracle(p, "direct").measure(at, "test").metric for at in (start, x))
    assert bool((after < 0.9 * before).all()) and bool((after > 0).all())


def test_the_slopes_of_swish() -> None:
    z = torch.linspace(-4, 4, 17, dtype=torch.float64, requires_grad=True)
    value: Tensor = SWISH.value(z)
    (first,) = torch.autograd.grad(value.sum(), z, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), z)
    ours = SWISH.slopes(z.detach(), value.detach())
    assert torch.allclose(ours[0], first.detach(), atol=1e-14) and torch.allclose(ours[1], second, atol=1e-14)


def test_a_lost_path_has_the_worst_metric() -> None:
    assert task().score(torch.full((4, 1), torch.nan), {}) == task().worst_metric
