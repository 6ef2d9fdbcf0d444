"""The `lr` of a group is the step size: PyTorch's schedulers do what they do with PyTorch's own optimizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from relaxbench.optim import AdamW, CurveBall
from relaxbench.optim.drop_in.base import RuleOptimizer
from relaxbench.optim.drop_in.classes import DROP_INS
from tests.optim.drop_in.models import loop, new, vector

SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "one cycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=20),
    "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=1e-3),
    "factor": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.9**epoch),
    "plateau": lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, patience=2, min_lr=1e-3),
}


def model64() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_adamw_under_a_scheduler_is_that_of_pytorch(kind: str) -> None:
    """With the default arguments of the schedulers, so momentum (β₁) cycles too."""
    values: dict[str, Any] = {"lr": 0.02, "betas": (0.8, 0.95), "weight_decay": 0.1}
    (ours, optimizer), (theirs, reference) = (
        (model, make(model.parameters(), **values))
        for model, make in (
            (model64(), lambda params, **given: AdamW(params, schedule="constant", **given)),
            (model64(), torch.optim.AdamW),
        )
    )
    schedulers = [SCHEDULERS[kind](each) for each in (optimizer, reference)]
    start = vector(ours)
    for _ in range(18):
        for model, each, scheduler in zip((ours, theirs), (optimizer, reference), schedulers, strict=True):
            loop(model, each, 1)
            scheduler.step(*([1.0] if kind == "plateau" else []))
    assert optimizer.param_groups[0]["lr"] == reference.param_groups[0]["lr"]
    assert torch.allclose(vector(ours), vector(theirs), rtol=1e-9, atol=1e-12)
    assert not torch.allclose(vector(ours), start)


def test_curveball_follows_the_rate_of_a_scheduler_and_has_no_momentum_to_cycle() -> None:
    """The rates set by hand in a twin; PyTorch itself refuses to cycle a momentum that does not exist."""
    model, optimizer = new("curveball", schedule="constant")
    with pytest.raises(ValueError, match=r"^optimizer must support momentum or beta1 with `cycle_momentum`[^\n]+$"):
        lr_scheduler.OneCycleLR(optimizer, max_lr=0.8, total_steps=12)
    scheduler = lr_scheduler.OneCycleLR(optimizer, max_lr=0.8, total_steps=12, cycle_momentum=False)
    twin, _ = new("curveball", schedule="constant")
    rates = []
    for _ in range(11):
        rates.append(optimizer.param_groups[0]["lr"])
        loop(model, optimizer, 1)
        scheduler.step()
    assert max(rates) > 0.7 > 0.1 > min(rates)
    other = CurveBall(twin, schedule="constant")
    for rate in rates:
        other.param_groups[0]["lr"] = rate
        loop(twin, other, 1)
    assert torch.equal(vector(model), vector(twin))


@pytest.mark.parametrize("name", DROP_INS)
def test_a_group_shows_the_step_size_that_was_given_where_there_is_one(name: str) -> None:
    rates = [key for key in DROP_INS[name].rule_class.wide if key == "lr" or key.endswith("_lr")]
    _, optimizer = new(name, **dict.fromkeys(rates, 0.03))
    assert optimizer.param_groups[0]["lr"] == (0.03 if len(rates) == 1 else 1.0)


def test_a_rate_under_its_old_name_is_refused_in_a_group() -> None:
    model, optimizer = new("adamw")
    optimizer.param_groups[0]["adam_lr"] = 0.1
    with pytest.raises(ValueError, match=r"holds adam_lr, which is part of its lr: set lr[^\n]+$"):
        loop(model, optimizer, 1)
    state = new("adamw")[1].state_dict()
    state["param_groups"][0]["adam_lr"] = 0.1
    with pytest.raises(ValueError, match="if a state of an older relaxbench is loaded, finish that training with it"):
        new("adamw")[1].load_state_dict(state)


UNSCHEDULED: dict[str, Any] = {"schedule": "constant", "scoping": "constant", "warmup": 0.0}


def unscheduled(name: str, total: int | None) -> tuple[nn.Module, RuleOptimizer]:
    model, _ = new(name)
    given = {key: value for key, value in UNSCHEDULED.items() if key in DROP_INS[name].rule_class.wide}
    first: Any = model if name == "curveball" else model.parameters()
    return model, DROP_INS[name](first, total_steps=total, **given)


@pytest.mark.parametrize("name", DROP_INS)
def test_a_constant_schedule_needs_no_total_steps(name: str) -> None:
    """The steps of an optimizer that has them, also when it is saved half way and loaded."""
    (model, optimizer), (twin, other), (third, again) = (unscheduled(name, total) for total in (None, 500, None))
    loop(model, optimizer, 15)
    third.load_state_dict(model.state_dict())
    again.load_state_dict(optimizer.state_dict())
    loop(third, again, 15)
    loop(twin, other, 30)
    assert torch.equal(vector(third), vector(twin)) and not torch.equal(vector(third), vector(model))
    assert again.total_steps is None


@pytest.mark.parametrize("name", DROP_INS)
def test_one_schedule_that_is_left_needs_total_steps(name: str) -> None:
    wide = DROP_INS[name].rule_class.wide
    model = nn.Linear(3, 2)
    first: Any = model if name == "curveball" else list(model.parameters())
    for key in UNSCHEDULED.keys() & wide.keys():
        given = {each: value for each, value in UNSCHEDULED.items() if each in wide and each != key}
        none = "0" if key == "warmup" else '"constant"'
        with pytest.raises(TypeError, match=rf"needs total_steps, [^\n]+ {none} needs none \({key} = "):
            DROP_INS[name](first, **given)


def test_a_schedule_that_begins_later_needs_total_steps() -> None:
    model, optimizer = unscheduled("sgd", None)
    loop(model, optimizer, 3)
    optimizer.param_groups[0]["schedule"] = "cosine"
    with pytest.raises(TypeError, match="needs total_steps"):
        loop(model, optimizer, 1)


def test_a_step_size_that_was_zero_at_first_is_scheduled_later() -> None:
    found = []
    for first in (0.0, 0.1):
        model, optimizer = new("sgd", schedule="cosine", lr=first)
        optimizer.param_groups[0].update(lr=0.1, initial_lr=0.1)
        loop(model, optimizer, 199)
        found.append(vector(model))
    assert torch.equal(*found)
    model, optimizer = new("sgd", schedule="constant", lr=0.1)
    loop(model, optimizer, 199)
    assert not torch.equal(vector(model), found[0])
