"""Small-step and imbalanced digits, and learned iterations for sparse codes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from relaxbench.problems import problem
from relaxbench.problems.digit_variants import SmallSteps, imbalanced
from relaxbench.problems.digits import digits
from relaxbench.problems.sparse_codes import Lista, codes, dictionary, error
from relaxbench.training.compatibility import why_not_vectorized
from relaxbench.training.oracle import Oracle


def test_half_the_classes_are_rare_in_training_alone() -> None:
    ours, whole = imbalanced(), digits()
    counts = torch.bincount(ours["train"][1], minlength=10)
    assert (
        torch.equal(counts[:5], torch.bincount(whole["train"][1], minlength=10)[:5]) and counts[5:].tolist() == [1] * 5
    )
    for split in ("validation", "test"):
        assert ours[split] is whole[split] and int(torch.bincount(ours[split][1], minlength=10).min()) > 30
    known = {tuple(row.tolist()) for row in whole["train"][0]}
    assert all(tuple(row.tolist()) in known for row in ours["train"][0])


def test_a_network_of_small_steps_is_eulers_method() -> None:
    torch.manual_seed(0)
    net = SmallSteps(width=8, blocks=3).double()
    pixels = torch.randn(5, 64, dtype=torch.float64)
    x = (pixels @ net.enter.weight.T + net.enter.bias).detach().numpy()
    for block in net.blocks:
        W, b, V, c = (p.detach().numpy() for p in block.parameters())
        x = x + (np.tanh(x @ W.T + b) @ V.T + c) / 3
    expected = x @ net.leave.weight.detach().numpy().T + net.leave.bias.detach().numpy()
    assert np.allclose(net(pixels).detach().numpy(), expected, atol=1e-12)


def test_measurements_are_those_of_sparse_codes() -> None:
    a, splits = dictionary(16, 32), codes(16, 32)
    assert torch.allclose(a.norm(dim=0), torch.ones(32, dtype=torch.float64))
    for y, z in splits.values():
        assert float((z != 0).float().mean()) == pytest.approx(0.1, abs=0.01)
        noise = y.double() - z.double() @ a.T
        assert float(noise.std()) == pytest.approx(0.02, rel=0.05)
    assert not torch.equal(splits["validation"][1][:100], splits["test"][1][:100])
    assert error(2 * splits["test"][1], splits["test"][1]) == pytest.approx(1.0, rel=1e-6)


def test_the_learned_iteration_begins_as_ista() -> None:
    """K steps of the proximal gradient method on ½|y − A z|² + λ|z|₁, in numpy."""
    torch.manual_seed(0)
    net, a = Lista(16, 32, 5), dictionary(16, 32).numpy()
    for enter in net.enter:
        enter.data.copy_(torch.from_numpy(a.T / np.linalg.norm(a, 2) ** 2))
    y = codes(16, 32)["test"][0][:7]
    step, z = 1 / np.linalg.norm(a, 2) ** 2, np.zeros((7, 32))
    for _ in range(5):
        v = z - step * (z @ a.T - y.numpy()) @ a
        z = np.sign(v) * np.maximum(abs(v) - 0.05 * step, 0)
    assert np.allclose(net(y).detach().numpy(), z, atol=1e-5)


@pytest.mark.parametrize("name", ["digits-ode-small", "digits-imbalanced-small", "lista-small"])
def test_some_steps_of_descent_help(name: str) -> None:
    p = problem(name)
    assert why_not_vectorized(p) is None and math.isfinite(p.worst)
    x, sampler = p.init(0)[None], p.sampler([0], [0], 60, torch.device("cpu"))
    before = Oracle(p, "direct").measure(x, "validation")
    for number in range(60):
        x = x - 0.1 * Oracle(p, "direct").gradient_on(x, sampler.batch(torch.tensor([[number]])))[0]
    after = Oracle(p, "direct").measure(x, "validation")
    assert float(after.metric) < 0.95 * float(before.metric)
