"""Schedule-Free SGD and AdamW against the authors' package, and the mean that replaces a schedule."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from relaxbench.optim import ScheduleFreeAdamW, ScheduleFreeSGD
from relaxbench.optim.rule import Query
from relaxbench.optim.rules import schedule_free
from tests.optim.drop_in.models import loop, vector
from tests.optim.populations import members, tensors, trace

theirs = pytest.importorskip("schedulefree", reason="schedulefree is not installed")

STEPS = 40
SGD: dict[str, float] = {"lr": 0.3, "momentum": 0.8, "weight_decay": 0.01}
ADAMW: dict[str, float] = {"adam_lr": 0.05, "beta1": 0.85, "beta2": 0.97, "decoupled_decay": 0.1}


@pytest.mark.parametrize("factors", ["constant", "rise", "fall"])
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_a_run_is_that_of_the_authors_package(kind: str, factors: str) -> None:
    """The points of the gradients and the deployed ones, in float64, while the step size rises or falls."""
    name = f"schedule-free-{kind}"
    population = members(name, 1, 6, STEPS, seed=3)
    parameter = nn.Parameter(population.x[0].clone())
    if kind == "sgd":
        rule: Any = schedule_free.ScheduleFreeSGD()
        reference: Any = theirs.SGDScheduleFree([parameter], **SGD)
    else:
        rule = schedule_free.ScheduleFreeAdamW()
        reference = theirs.AdamWScheduleFree([parameter], lr=0.05, betas=(0.85, 0.97), weight_decay=0.1)
    reference.train()
    state = rule.init(population.x, population.seeds)
    for t in range(STEPS):
        factor = {"constant": 1.0, "rise": min(1.0, (t + 1) / 15), "fall": 1 - t / STEPS}[factors]
        values = {
            key: value * (factor if key.endswith("lr") else 1) for key, value in (SGD, ADAMW)[kind != "sgd"].items()
        }
        reference.param_groups[0]["lr"] = values[rule.rate]
        point = rule.query(state, tensors(values)).points
        assert torch.allclose(point[0], parameter.detach(), rtol=1e-12, atol=1e-12)
        query = Query(point, torch.tensor([[t]]))
        parameter.grad = population.gradient(query)[0].clone()
        state = rule.update(state, population.gradient(query), torch.zeros(1, 1), tensors(values))
        reference.step()
    reference.eval()
    assert torch.allclose(rule.iterate(state)[0], parameter.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_the_drop_in_class_is_the_package_under_a_scheduler(kind: str) -> None:
    """`deployed()` is the package's `eval()`."""
    found = []
    for native in (True, False):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
        given: dict[str, Any] = dict(SGD) if kind == "sgd" else {"lr": 0.05, "betas": (0.85, 0.97), "weight_decay": 0.1}
        ours, other = (
            (ScheduleFreeSGD, theirs.SGDScheduleFree)
            if kind == "sgd"
            else (ScheduleFreeAdamW, theirs.AdamWScheduleFree)
        )
        optimizer = ours(model.parameters(), warmup=0.0, **given) if native else other(model.parameters(), **given)
        optimizer.train()
        scheduler = lr_scheduler.LambdaLR(optimizer, lambda step: 0.97**step)
        for _ in range(25):
            loop(model, optimizer, 1)
            scheduler.step()
        trained = vector(model)
        optimizer.eval()
        found.append((trained, vector(model)))
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-13) for a, b in zip(*found, strict=True))
    assert not torch.allclose(*found[0])


def test_the_deployed_point_is_the_mean_of_all_steps_of_sgd_without_interpolation() -> None:
    """At β = 0 gradients are taken at z: Polyak and Ruppert's average of plain SGD."""
    population = members("schedule-free-sgd", 2, 4, 30, seed=5)
    population.hyper |= {name: torch.zeros(2, 1, dtype=torch.float64) for name in ("momentum", "warmup")}
    queries, iterates, _ = trace("schedule-free-sgd", population, 30)
    for t in range(1, 30):
        assert torch.allclose(iterates[t], torch.stack(queries[1 : t + 1]).mean(0), rtol=1e-12, atol=1e-12)


def test_a_step_size_of_zero_moves_nothing() -> None:
    population = members("schedule-free-sgd", 1, 4, 3, seed=1)
    population.hyper["lr"] = torch.zeros(1, 1, dtype=torch.float64)
    _, iterates, _ = trace("schedule-free-sgd", population, 3)
    assert all(torch.equal(iterate, population.x) for iterate in iterates)
