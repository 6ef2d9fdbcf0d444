"""The loop with nested automatic differentiation computes the loss of the problem that it is compared on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from relaxbench.bench.residual import SIZES, NestedLoop, task_of
from relaxbench.training.oracle import Oracle

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", SIZES)
def test_the_nested_loop_has_the_loss_and_the_gradient_of_the_problem(name: str) -> None:
    task = task_of(name)
    loop = NestedLoop(task, CPU)
    batch = task.sampler([3], [0], 1, CPU).batch(torch.zeros(1, 1, dtype=torch.int64))
    inside, edge = loop._draw()
    assert batch["inside"].shape == (1, 1, *inside.shape) and batch["edge"].shape == (1, 1, *edge.shape)
    nn.utils.vector_to_parameters(task.init(3), loop.network.parameters())
    loss = loop.loss(batch["inside"][0, 0].clone(), batch["edge"][0, 0])
    loss.backward()  # type: ignore[no-untyped-call]
    grad, own = Oracle(task, "vectorized").gradient_on(task.init(3)[None], batch)
    assert own.item() == pytest.approx(loss.item(), rel=1e-12)
    nested = torch.cat([p.grad.flatten() for p in loop.network.parameters() if p.grad is not None])
    assert torch.allclose(grad[0], nested, rtol=1e-10, atol=1e-12)
    assert loop.step() == 1
