"""The averages of AdamW's weights against PyTorch's AveragedModel, and against checkpoints that are kept."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from relaxbench.optim import AdamWEMA, AdamWLAWA
from relaxbench.optim.drop_in.base import RuleOptimizer
from tests.optim.drop_in.models import X, vector

ADAMW = {"lr": 0.03, "betas": (0.8, 0.95), "weight_decay": 0.1}


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def take(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(X.double()).square().mean().backward()
    optimizer.step()


def deployed(model: nn.Module, optimizer: RuleOptimizer) -> Tensor:
    with optimizer.deployed():
        return vector(model)


def test_the_exponential_average_is_that_of_pytorch() -> None:
    ours, theirs = net(), net()
    optimizer = AdamWEMA(ours.parameters(), ema_steps=7.0, schedule="constant", **ADAMW)
    reference = torch.optim.AdamW(theirs.parameters(), **ADAMW)  # type: ignore[arg-type]

    def follow(average: Tensor, now: Tensor, count: Tensor | int) -> Tensor:
        return average + (now - average) / min(int(count) + 1, 7)

    averaged = AveragedModel(theirs, avg_fn=follow)
    for _ in range(30):
        take(ours, optimizer)
        take(theirs, reference)
        averaged.update_parameters(theirs)
        assert torch.allclose(vector(ours), vector(theirs), rtol=1e-12, atol=1e-12)
        assert torch.allclose(deployed(ours, optimizer), vector(averaged.module), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(deployed(ours, optimizer), vector(ours), rtol=1e-3)


def test_the_latest_checkpoints_are_averaged() -> None:
    """The first is taken after window/k = 5.75 steps, rounded down."""
    ours, theirs = net(), net()
    optimizer = AdamWLAWA(ours.parameters(), window_steps=23.0, checkpoints=4, schedule="constant", **ADAMW)
    reference = torch.optim.AdamW(theirs.parameters(), **ADAMW)  # type: ignore[arg-type]
    kept: list[Tensor] = []
    for step in range(1, 48):
        take(ours, optimizer)
        take(theirs, reference)
        if step % 5 == 0:
            kept.append(vector(theirs))
        expected = torch.stack(kept[-4:]).mean(0) if kept else vector(theirs)
        assert torch.allclose(deployed(ours, optimizer), expected, rtol=1e-12, atol=1e-12)
        assert torch.allclose(vector(ours), vector(theirs), rtol=1e-12, atol=1e-12)
    assert optimizer.rule.copies == 8


def test_a_number_of_checkpoints_is_checked() -> None:
    with pytest.raises(ValueError, match=r"^checkpoints = 0: expected an integer of at least 1$"):
        AdamWLAWA(net().parameters(), total_steps=9, checkpoints=0)
