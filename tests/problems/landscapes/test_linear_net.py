"""The degenerate linear net, against the same formula in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from relaxbench.problems.landscapes.linear_net import LinearNet
from relaxbench.training.oracle import Oracle, Path

CPU = torch.device("cpu")


def test_the_loss_is_the_mean_of_summed_squares_with_its_gradient() -> None:
    task = LinearNet()
    points = torch.stack([task.init(seed) for seed in range(3)]).double()
    batch = task.sampler([0, 1, 2], [0] * 3, 1, CPU).batch(torch.zeros(3, 1, dtype=torch.int64))
    x, y = (task.split("train", CPU)[name].double().numpy() for name in ("x", "y"))
    assert x.shape == (1000, 6) and y.shape == (1000, 10) and task.size == 160
    paths: tuple[Path, ...] = ("vectorized", "direct")
    for path in paths:
        grads, losses = Oracle(task, path).gradient_on(points, batch)
        for k in range(3):
            w1, w2 = points[k, :60].view(10, 6).numpy(), points[k, 60:].view(10, 10).numpy()
            residual = x @ w1.T @ w2.T - y
            assert losses[k].item() == pytest.approx((residual**2).sum(1).mean(), rel=1e-9)
            d2 = 2 * residual.T @ (x @ w1.T) / 1000
            d1 = 2 * w2.T @ residual.T @ x / 1000
            expected = np.concatenate([d1.ravel(), d2.ravel()])
            assert grads[k].numpy() == pytest.approx(expected, rel=1e-7, abs=1e-9)


def test_its_target_falls_off_along_the_outputs_and_can_be_met() -> None:
    """The last output is nearly zero; the best linear map has loss zero, so the tolerance can be reached."""
    task = LinearNet()
    x, y = (task.split("train", CPU)[name].double() for name in ("x", "y"))
    sizes = y.square().mean(0).sqrt()
    assert sizes[0] > 1 and sizes[-1] < 1e-4 and bool((sizes[:-1] > sizes[1:] * 0.5).all())
    solution = torch.linalg.lstsq(x, y).solution
    assert float((x @ solution - y).square().sum(1).mean()) < 1e-10


def test_initial_weights_have_the_published_spreads() -> None:
    task = LinearNet()
    points = torch.stack([task.init(seed) for seed in range(400)])
    assert float(points[:, :60].std()) == pytest.approx(2 / 16, rel=0.02)
    assert float(points[:, 60:].std()) == pytest.approx(1 / 10, rel=0.02)
    assert torch.equal(task.init(5), task.init(5)) and not torch.equal(task.init(5), task.init(6))


def test_the_data_never_change() -> None:
    first, second = LinearNet().split("train", CPU), LinearNet().split("validation", CPU)
    assert all(torch.equal(first[name], second[name]) for name in first)
