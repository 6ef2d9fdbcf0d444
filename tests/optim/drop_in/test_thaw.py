"""Gradual unfreezing: parameters that begin to need a gradient later are trained, as by torch.optim."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from relaxbench.optim import SGD, AdamW
from relaxbench.optim.drop_in.classes import DROP_INS
from tests.optim.drop_in.models import X, loop, vector


def half_frozen(name: str) -> tuple[Any, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    model[0].requires_grad_(False)
    values: dict[str, Any] = {"inner_steps": 4} if "inner_steps" in DROP_INS[name].rule_class.wide else {}
    given: Any = model if name == "curveball" else model.parameters()
    return model, DROP_INS[name](given, total_steps=120, **values)


@pytest.mark.parametrize("name", DROP_INS)
def test_a_thawed_layer_is_trained_and_a_frozen_one_is_not(name: str) -> None:
    """Thawed in mid-sweep: 7 steps are no number of sweeps of three replicas or of inner loops of four."""
    model, optimizer = half_frozen(name)
    first, last = model[0].weight.detach().clone(), model[2].weight.detach().clone()
    loop(model, optimizer, 7)
    assert torch.equal(model[0].weight, first)
    optimizer.eval()
    deployed = model[2].weight.detach().clone()
    optimizer.train()
    model[0].requires_grad_(True)
    with optimizer.deployed():  # nothing moves because a layer is thawed
        assert torch.equal(model[2].weight, deployed) and torch.equal(model[0].weight, first)
    loop(model, optimizer, 113)
    optimizer.eval()
    assert not torch.equal(model[0].weight, first) and not torch.equal(model[2].weight, last)
    with torch.no_grad():
        assert model(X).square().mean() < 0.2


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            lambda p: SGD(p, total_steps=40, lr=0.1, momentum=0.9, weight_decay=1e-3, schedule="constant"),
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3, nesterov=True),
        ),
        (
            lambda p: AdamW(p, total_steps=40, adam_lr=0.01, decoupled_decay=1e-2, schedule="constant"),
            lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=1e-2),
        ),
    ],
)
def test_it_is_trained_as_by_torch_optim(ours: Any, theirs: Any) -> None:
    """AdamW counts the steps of each parameter: its bias correction begins when the layer is thawed."""
    found = []
    for make in (ours, theirs):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
        model[0].requires_grad_(False)
        optimizer = make(model.parameters())
        loop(model, optimizer, 10)
        model[0].requires_grad_(True)
        loop(model, optimizer, 10)
        found.append(vector(model))
    assert torch.allclose(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_groups_keep_their_step_sizes_when_a_layer_is_thawed() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    model[0].weight.requires_grad_(False)
    groups = [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[1].parameters(), "lr": 0.0}]
    optimizer = SGD(groups, total_steps=20)
    loop(model, optimizer, 3)
    before = [p.detach().clone() for p in model.parameters()]
    model[0].weight.requires_grad_(True)
    loop(model, optimizer, 3)
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert moved == [True, True, False, False]


def test_betas_that_change_between_the_same_two_steps_count_too() -> None:
    def weights(cls: Any, **options: Any) -> torch.Tensor:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 4))
        model[0].requires_grad_(False)
        optimizer = cls(model.parameters(), lr=0.01, betas=(0.95, 0.999), weight_decay=0.0, **options)
        for step in range(6):
            if step == 3:
                model[0].requires_grad_(True)
                optimizer.param_groups[0]["betas"] = (0.85, 0.999)
            x = torch.randn(16, 10, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), x[:, :4].argmax(1)).backward()
            optimizer.step()
        return vector(model)

    assert torch.allclose(weights(AdamW, schedule="constant"), weights(torch.optim.AdamW), atol=2e-6)
