"""SGLD samples what it promises, at the noise of the trial's seed."""

from __future__ import annotations

import pytest
import torch

from relaxbench.optim.rules.sgd import SGD
from relaxbench.optim.rules.sgld import SGLD
from tests import splitmix
from tests.optim.populations import tensors


@pytest.mark.parametrize("rate", [0.02, 0.8])
def test_the_chain_has_the_variance_of_its_closed_form(rate: float) -> None:
    """On ½ λ x² with prior wd: T/((λ + wd)(1 − η (λ + wd)/2)), which is T/(λ + wd) for small steps."""
    K, curvature, decay, temperature = 20_000, 1.5, 0.5, 0.3
    hyper = tensors({"lr": rate, "temperature": temperature, "weight_decay": decay})
    rule = SGLD()
    stiffness = curvature + decay
    variance = temperature / stiffness / (1 - rate * stiffness / 2)
    start = torch.randn(K, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * variance**0.5
    state = rule.init(start, torch.arange(K)[:, None])
    for _ in range(60):
        state = rule.update(state, curvature * state["x"], torch.zeros(K, 1), hyper)
    assert float(state["x"].var()) == pytest.approx(variance, rel=0.04)  # four standard errors of a variance
    assert abs(float(state["x"].mean())) < 4 * (variance / K) ** 0.5


def test_a_step_is_plain_sgd_and_the_noise_of_the_seed() -> None:
    """Bit for bit what SGD without momentum takes; the noise is that of an independent generator."""
    x = torch.tensor([[0.3, -1.2, 2.0]], dtype=torch.float64)
    grad = torch.tensor([[0.1, 0.7, -0.4]], dtype=torch.float64)
    shared = {"lr": 0.05, "weight_decay": 0.01}
    seed = torch.tensor([[1234567]])
    cold, plain = SGLD().init(x, seed), SGD().init(x, seed)
    hot = SGLD().init(x, seed)
    for _ in range(3):
        SGD().update(plain, grad, torch.zeros(1, 1), tensors({**shared, "momentum": 0.0}))
        SGLD().update(cold, grad, torch.zeros(1, 1), tensors({**shared, "temperature": 0.0}))
    assert torch.equal(cold["x"], plain["x"])
    SGLD().update(hot, grad, torch.zeros(1, 1), tensors({**shared, "temperature": 0.3}))
    noise = torch.tensor(splitmix.noise(1234567, 0, 3))
    expected = x - 0.05 * (grad + 0.01 * x) + (2 * 0.05 * 0.3) ** 0.5 * noise
    assert torch.allclose(hot["x"], expected, rtol=1e-12, atol=1e-12)
