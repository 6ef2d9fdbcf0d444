"""Two schedules at once, hot and unstable inner chains: told once, with the number."""

from __future__ import annotations

import math
import re
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from relaxbench.optim import SGD, EntropySGD, Parle
from relaxbench.optim.drop_in.cautions import variance
from relaxbench.optim.drop_in.classes import DROP_INS
from tests.optim.drop_in.models import loop, new


@pytest.mark.parametrize("name", [name for name, cls in DROP_INS.items() if "schedule" in cls.rule_class.wide])
def test_two_schedules_at_once_are_told_once(name: str) -> None:
    model, optimizer = new(name, schedule="cosine")
    lr = optimizer.param_groups[0]["lr"]
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.5)
    told = rf'lr was {lr:g} and is now {lr / 2:g}, so a scheduler acts on it, and schedule = "cosine" multiplies it too'
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(9):
            loop(model, optimizer, 1)
            scheduler.step()
    assert [re.match(re.escape(told), str(each.message)) is not None for each in caught] == [True]
    assert caught[0].filename.endswith("models.py")  # the line that called step()


def test_one_schedule_is_not_told() -> None:
    for given, scheduled in (({"schedule": "constant"}, True), ({"schedule": "cosine"}, False)):
        model, optimizer = new("sgd", **given)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5 if scheduled else 1.0)
        for _ in range(3):
            loop(model, optimizer, 1)
            scheduler.step()


def test_a_hot_chain_is_told_with_the_number() -> None:
    layer = nn.Linear(2, 2)
    given: dict[str, Any] = {"total_steps": 100, "inner_lr": 0.05, "momentum": 0.9, "weight_decay": 0.0}
    with pytest.warns(
        UserWarning, match=r"\(1/gamma \+ weight_decay\) = 1 is not small against 0.01 = .* 36.2 times"
    ) as told:
        EntropySGD(layer.parameters(), gamma_start=1.0, gamma_end=0.05, **given)
    assert len(told) == 1 and told[0].filename == __file__
    EntropySGD(layer.parameters(), gamma_start=1.0, gamma_end=0.05, temperature=0.0, **given)  # no noise
    EntropySGD(layer.parameters(), gamma_start=1.0, gamma_end=1.0, **given)


def heat_by_simulation(pull: float, momentum: float) -> float:
    """The chain as the rule runs it, on a flat loss: the variance of y in units of that of the temperature."""
    walkers = nn.Parameter(torch.zeros(4000, dtype=torch.float64))
    optimizer = EntropySGD(
        [walkers],
        total_steps=10**6,
        inner_steps=400,
        inner_lr=pull,
        momentum=momentum,
        gamma_start=1.0,
        gamma_end=1.0,
        weight_decay=0.0,
        temperature=1.0,
    )
    for _ in range(300):
        walkers.grad = torch.zeros_like(walkers)
        optimizer.step()
    return float(walkers.detach().var())


@pytest.mark.parametrize(("pull", "momentum"), [(0.05, 0.5), (0.5, 0.5), (0.1, 0.9)])
def test_the_heat_is_that_of_the_rule(pull: float, momentum: float) -> None:
    assert variance(pull, momentum) * pull == pytest.approx(heat_by_simulation(pull, momentum), rel=0.1)


@pytest.mark.parametrize(
    ("cls", "options", "limit"),
    [
        (DROP_INS["hj"], {}, 2 * 1.9 / 2.8),
        (EntropySGD, {}, 2 * 1.9 / 2.8),
        (Parle, {}, 2 * 1.9 / 2.8),
        (EntropySGD, {"coupling_outside_momentum": True}, 2.0),
        (Parle, {"mpi_code": True}, 2 * 1.9 / 2.9),
    ],
)
@pytest.mark.parametrize("side", [0.97, 1.03])
def test_an_unstable_chain_is_told_where_it_diverges(
    cls: Any, options: dict[str, bool], limit: float, side: float
) -> None:
    """On a flat loss, pushed once: the distance to x shrinks below the limit and grows above it."""
    start = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    given: dict[str, Any] = {"momentum": 0.9, "weight_decay": 0.0, "inner_lr": side * limit, **options}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        optimizer = cls([start], total_steps=10**6, inner_steps=400, gamma_start=1.0, gamma_end=1.0, **given)
        if "temperature" in optimizer.param_groups[0]:
            optimizer.param_groups[0]["temperature"] = 0.0
    told = [str(each.message) for each in caught if "diverges" in str(each.message)]
    assert bool(told) == (side > 1) and all(f"from {limit:.3g} on" in each for each in told)
    replicas, distances = optimizer.rule.replicas, list[float]()
    for step in range(300 * replicas):
        start.grad = torch.full_like(start, float(step < replicas))
        optimizer.step()
        distances.append(math.fabs(float(start.detach())))
    assert (distances[-1] > distances[30 * replicas]) == (side > 1)


def test_the_defaults_are_not_told() -> None:
    for name in DROP_INS:
        new(name)
    assert SGD(nn.Linear(2, 2).parameters(), total_steps=1).total_steps == 1
