"""ASAM against another implementation, and the invariance for which it was made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from relaxbench.optim import ASAM
from relaxbench.optim.hyper import stack
from relaxbench.optim.rules import asam

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = X[:, :3].argmax(1)


def net() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def closure(model: nn.Module, optimizer: Any) -> Callable[[], Tensor]:
    def run() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(X), Y)
        loss.backward()
        return loss

    return run


def test_a_run_is_that_of_pytorch_optimizer() -> None:
    """Its SAM with adaptive=True, whose T has no offset, around PyTorch's SGD with Nesterov's momentum."""
    others = pytest.importorskip("pytorch_optimizer", reason="pytorch-optimizer is not installed")
    ours, theirs = net(), net()
    own = ASAM(
        ours.parameters(), lr=0.2, momentum=0.9, weight_decay=1e-3, relative_radius=0.5, offset=0.0, schedule="constant"
    )
    other = others.SAM(
        theirs.parameters(),
        torch.optim.SGD,
        rho=0.5,
        adaptive=True,
        lr=0.2,
        momentum=0.9,
        weight_decay=1e-3,
        nesterov=True,
    )
    for _ in range(25):
        own.step(closure(ours, own))
        closure(theirs, other)()
        other.first_step(zero_grad=True)
        closure(theirs, other)()
        other.second_step(zero_grad=True)
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    assert all(torch.allclose(a, b, rtol=0, atol=5e-8) for a, b in pairs)  # their norm is rounded to float32


def test_the_nearby_point_scales_with_the_parameters() -> None:
    """x → c x with f(x) = h(x/c): the gradient shrinks by c, and the way to the nearby point grows by c."""
    x = torch.tensor([[0.5, -2.0, 3.0]], dtype=torch.float64)
    scale = torch.tensor([[4.0, 0.1, 1.0]], dtype=torch.float64)
    grad = torch.tensor([[1.0, -0.3, 0.2]], dtype=torch.float64)
    hyper = stack([{"relative_radius": 0.5, "offset": 0.0}], torch.device("cpu"), torch.float64)
    rule = asam.ASAM()
    assert torch.allclose(rule._ascent(scale * x, grad / scale, hyper), scale * rule._ascent(x, grad, hyper))
