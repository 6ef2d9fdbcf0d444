"""Parameter groups: their own step sizes, PyTorch's schedulers, and mistakes that are named."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from relaxbench.optim import SGD, AdamW, EntropySGD
from tests.optim.drop_in.models import loop, new, vector


def test_bad_groups_are_named() -> None:
    layer = nn.Linear(3, 1)
    for extra, error, told in (
        ({"inner_lrr": 0.1}, TypeError, "did you mean 'inner_lr'"),
        ({"lr": -1.0}, ValueError, "lr = -1.0"),
        ({"momentum": 2.0}, ValueError, "momentum = 2.0"),
    ):
        with pytest.raises(error, match=told):
            EntropySGD([{"params": [layer.weight], **extra}], total_steps=100)
    optimizer = EntropySGD(layer.parameters(), total_steps=100)
    optimizer.param_groups[0]["momentum"] = 2.0
    with pytest.raises(ValueError, match=r"momentum = 2\.0"):
        loop(layer, optimizer, 1)
    optimizer.param_groups[0].update(momentum=0.5, lr="a")
    with pytest.raises(ValueError, match="lr = 'a': expected a number"):
        loop(layer, optimizer, 1)


@pytest.mark.parametrize(
    ("method", "later", "told"),
    [
        (
            "sgd",
            {"nesterov": False},
            "SGD has no hyperparameter 'nesterov': it has lr, momentum, weight_decay, schedule",
        ),
        ("sgd", {"maximize": True}, "no hyperparameter 'maximize'"),
        ("sgd", {"betas": (0.9, 0.99)}, "no hyperparameter 'betas'"),
        ("adamw", {"eps": 1e-3}, "AdamW has no hyperparameter 'eps': it has schedule, betas, weight_decay, lr"),
        ("adamw", {"amsgrad": True}, "no hyperparameter 'amsgrad'"),
    ],
)
def test_what_is_put_into_a_group_later_must_have_an_effect(method: str, later: dict[str, Any], told: str) -> None:
    model, optimizer = new(method, schedule="constant")
    loop(model, optimizer, 1)
    optimizer.param_groups[0].update(later)
    with pytest.raises(TypeError, match=told):
        loop(model, optimizer, 1)
    state = optimizer.state_dict()
    _, other = new(method, schedule="constant")
    with pytest.raises(TypeError, match=told):
        other.load_state_dict(state)
    optimizer.param_groups[0].pop(next(iter(later)))
    loop(model, optimizer, 1)


def test_a_scheduler_resumes_from_groups_with_its_keys() -> None:
    """As PyTorch's documentation does it, with `last_epoch`."""
    rates = []
    for make in (torch.optim.SGD, partial(SGD, schedule="constant")):
        optimizer = make([{"params": nn.Parameter(torch.ones(2)), "initial_lr": 0.1}], lr=0.01)
        torch.optim.lr_scheduler.StepLR(optimizer, 2, last_epoch=3)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[0] == rates[1]


def test_values_are_named_as_pytorch_names_them() -> None:
    groups = [{"params": [nn.Parameter(torch.ones(2))], "betas": (first, 0.99)} for first in (0.9, 0.8)]
    with pytest.raises(ValueError, match=r"^betas differs between parameter groups \(\[\(0\.9, 0\.99\), \(0\.8"):
        AdamW(groups, schedule="constant")
    with pytest.raises(ValueError, match=r"^betas = \(1\.5, 0\.99\): expected .*, below 1 for beta1$"):
        AdamW([nn.Parameter(torch.ones(2))], betas=(1.5, 0.99), schedule="constant")


def test_groups_cannot_be_added_later() -> None:
    _, optimizer = new("entropy-sgd")
    with pytest.raises(ValueError, match="cannot be added later"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})


def test_schedulers_that_add_keys_to_the_groups_work() -> None:
    model, optimizer = new("sgd", schedule="constant")
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=20)
    for _ in range(19):
        loop(model, optimizer, 1)
        scheduler.step()
    state = optimizer.state_dict()
    again, other = new("sgd", schedule="constant")
    other.load_state_dict(state)
    assert other.param_groups[0]["max_lr"] == 0.1 and bool(torch.isfinite(vector(again)).all())


def test_parameter_groups_have_their_own_step_sizes() -> None:
    model = nn.Linear(3, 2)
    groups = [{"params": [model.weight], "inner_lr": 0.0}, {"params": [model.bias]}]
    optimizer = EntropySGD(groups, total_steps=10, inner_steps=2, temperature=0.0, schedule="constant")
    before = model.weight.detach().clone(), model.bias.detach().clone()
    for _ in range(2):
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    assert torch.equal(model.weight, before[0]) and not torch.equal(model.bias, before[1])


def test_structure_may_not_differ_between_groups() -> None:
    layer = nn.Linear(2, 2)
    groups = [{"params": [layer.weight], "inner_steps": 4}, {"params": [layer.bias], "inner_steps": 8}]
    with pytest.raises(ValueError, match="inner_steps differs between parameter groups"):
        EntropySGD(groups, total_steps=10)
