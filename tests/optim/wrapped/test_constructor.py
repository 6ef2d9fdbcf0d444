"""The code that `best` prints for a wrapped optimizer makes that optimizer, with the step sizes of the study."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from relaxbench.optim.drop_in.classes import drop_in
from relaxbench.optim.hyper import SCHEDULES, defaults, stack
from relaxbench.optim.wrapped import wrap
from relaxbench.optim.wrapped.constructor import code

STEPS = 40


def run(lines: list[str]) -> dict[str, Any]:
    names: dict[str, Any] = {"model": nn.Linear(3, 2)}
    exec("\n".join(lines), names)
    return names


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_step_sizes_are_those_of_the_study(schedule: str) -> None:
    rule = wrap("torch.optim.Adam", amsgrad=True)
    values = {**defaults(rule.wide), "lr": 0.25, "beta1": 0.75, "schedule": schedule}
    made = run(code(rule, values, STEPS))
    optimizer, scheduler = made["optimizer"], made.get("scheduler")
    group = optimizer.param_groups[0]
    assert type(optimizer) is torch.optim.Adam and group["amsgrad"] and group["betas"] == (0.75, 0.999)
    hyper = stack([values], torch.device("cpu"), torch.float64)
    for step in range(STEPS):
        expected = rule().at(hyper, torch.tensor([[step / STEPS]], dtype=torch.float64))["lr"]
        assert group["lr"] == pytest.approx(float(expected), rel=1e-5, abs=1e-9), step
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


def test_matrices_and_other_parameters_have_their_optimizers() -> None:
    rule = wrap("torch.optim.Muon", companion="torch:torch.optim.SGD", companion_nesterov=True)
    made = run(code(rule, {**defaults(rule.wide), "companion_lr": 0.125, "companion_momentum": 0.5}, STEPS))
    optimizer, companion = made["optimizer"], made["companion"]
    assert type(optimizer) is torch.optim.Muon and type(companion) is torch.optim.SGD
    assert [p.shape for p in optimizer.param_groups[0]["params"]] == [(2, 3)]
    assert [p.shape for p in companion.param_groups[0]["params"]] == [(2,)]
    group = companion.param_groups[0]
    assert (group["initial_lr"], group["momentum"], group["nesterov"]) == (0.125, 0.5, True)
    assert "companion_scheduler" in made


def test_a_wrapped_optimizer_needs_no_drop_in_class() -> None:
    with pytest.raises(TypeError, match=r"torch\.optim\.Adam is an optimizer of PyTorch already: use it itself"):
        drop_in("torch:torch.optim.Adam")
