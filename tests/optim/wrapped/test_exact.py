"""Wrapped optimizers take the steps of plain PyTorch loops, bit for bit: alone, among others, interrupted, refilled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.optim.wrapped import wrap
from relaxbench.problems.digits import digits_mlp
from relaxbench.space import Value
from relaxbench.training.ensemble import Ensemble
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Checkpoint, Job

TASK = digits_mlp()
TASK.rounds = 5  # a measurement of all members takes longer than their steps
BUDGET = 30
Make = Callable[..., torch.optim.Optimizer]

SETTINGS: list[tuple[str, dict[str, Any], dict[str, float]]] = [
    ("Adam", {}, {"lr": 0.003, "beta1": 0.8, "beta2": 0.99, "eps": 1e-7, "weight_decay": 0.01}),
    ("Adam", {"amsgrad": True}, {"lr": 0.003}),
    ("AdamW", {}, {"lr": 0.01, "beta2": 0.95, "weight_decay": 0.1}),
    ("SGD", {}, {"lr": 0.1}),
    ("SGD", {"nesterov": True}, {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}),
    ("RMSprop", {}, {"lr": 0.001, "alpha": 0.9, "momentum": 0.5}),
    ("NAdam", {}, {"lr": 0.002}),
    ("Adagrad", {}, {"lr": 0.01, "lr_decay": 0.1, "initial_accumulator_value": 0.2}),
    ("ASGD", {}, {"lr": 0.01, "lambd": 0.1, "t0": 3.0}),
    ("Adafactor", {}, {"lr": 0.01}),
]


def arguments(values: Mapping[str, float]) -> dict[str, Any]:
    """The arguments of PyTorch's constructor, written by hand."""
    given: dict[str, Any] = {name: value for name, value in values.items() if not name.startswith("beta")}
    if {"beta1", "beta2"} & values.keys():
        given["betas"] = (values.get("beta1", 0.9), values.get("beta2", 0.999))
    return given


def plain(make: Make, seed: int, steps: int, rates: Callable[[int], float] = lambda step: 1.0) -> Tensor:
    """The parameters after a loop as everybody writes it."""
    sampler = TASK.sampler([seed], [0], steps, torch.device("cpu"))
    params = {name: nn.Parameter(part) for name, part in TASK.unflatten(TASK.init(seed)).items()}
    optimizer = make(list(params.values()))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rates)
    for step in range(steps):
        batch = {name: value[0] for name, value in sampler.batch(torch.tensor([[step]])).items()}
        optimizer.zero_grad()
        loss = TASK.loss.value(TASK.outputs(params, batch, True), batch)
        loss.backward()
        optimizer.step()
        schedule.step()
    return torch.cat([p.detach().flatten() for p in params.values()])


def job(rule: Any, seed: int, values: Mapping[str, Value], resume: Checkpoint | None = None) -> Job:
    own = {name: place.default for name, place in rule.recipe.places.items()}
    return Job(seed, seed, {**defaults(rule.wide), **own, "schedule": "constant", **values}, resume=resume)


def trained(rule: Any, jobs: list[Job], size: int) -> dict[int, Tensor]:
    """The last points of trials in a population whose slots are refilled."""
    queue, found = list(jobs), {}

    def feed(free: int) -> list[Job]:
        taken, queue[:] = queue[:free], queue[free:]
        return taken

    Population(Oracle(TASK, "direct"), rule(), BUDGET).run(
        feed, lambda outcomes: found.update({o.job.id: o.weights for o in outcomes}), size
    )
    return found


@pytest.mark.parametrize(("name", "options", "values"), SETTINGS)
def test_a_member_goes_where_a_plain_loop_leads(name: str, options: dict[str, Any], values: dict[str, float]) -> None:
    """At K = 1, at K = 7 among members with other settings, and refilled into two slots."""
    rule, make = wrap(f"torch.optim.{name}", **options), getattr(torch.optim, name)
    others = {"lr": values["lr"] / 3}
    jobs = [job(rule, seed, values if seed % 2 else {**values, **others}) for seed in range(7)]
    ways = [trained(rule, jobs, 7), trained(rule, jobs[5:1:-1], 2), trained(rule, [jobs[3]], 1)]
    expected = {
        seed: plain(lambda p, own=own: make(p, **options, **arguments(own)), seed, BUDGET)
        for seed, own in ((3, values), (4, {**values, **others}))
    }
    for way in ways:
        for seed in expected.keys() & way.keys():
            assert torch.equal(way[seed], expected[seed])


@pytest.mark.parametrize(("name", "options", "values"), SETTINGS[:6])
def test_an_interruption_changes_nothing(name: str, options: dict[str, Any], values: dict[str, float]) -> None:
    """A checkpoint after some rounds goes on in another population, in another slot."""
    rule = wrap(f"torch.optim.{name}", **options)
    first = Population(Oracle(TASK, "direct"), rule(), BUDGET)
    first.admit([job(rule, 5, values), job(rule, 3, values)])
    first.round()
    saved = first.checkpoints()
    went_on = trained(rule, [job(rule, 1, values), job(rule, 3, values, saved[3])], 2)
    expected = plain(lambda p: getattr(torch.optim, name)(p, **options, **arguments(values)), 3, BUDGET)
    assert torch.equal(went_on[3], expected)


def test_our_schedules_act_on_the_step_size() -> None:
    rule = wrap("torch.optim.Adam")
    found = trained(rule, [job(rule, 3, {"lr": 0.01, "schedule": "step"})], 1)
    rates = lambda step: 0.2 ** sum(step >= at * BUDGET for at in (0.3, 0.6, 0.9))  # noqa: E731
    expected = plain(lambda p: torch.optim.Adam(p, lr=0.01), 3, BUDGET, rates)
    torch.testing.assert_close(found[3], expected, rtol=1e-5, atol=1e-7)  # factors in float32
    constant = plain(lambda p: torch.optim.Adam(p, lr=0.01), 3, BUDGET)
    assert (found[3] - constant).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("ours", "theirs", "mine", "options"),
    [
        (
            "adamw",
            "AdamW",
            {"adam_lr": "lr", "decoupled_decay": "weight_decay", "beta1": "beta1", "beta2": "beta2"},
            {},
        ),
        ("sgd", "SGD", {"lr": "lr", "momentum": "momentum", "weight_decay": "weight_decay"}, {"nesterov": True}),
    ],
)
@pytest.mark.parametrize("size", [1, 7])
def test_a_native_rule_and_the_wrapped_optimizer_agree_up_to_rounding(
    ours: str, theirs: str, mine: dict[str, str], options: dict[str, Any], size: int
) -> None:
    """They add in another order, so that in float64 a last bit may differ (measured: 1.4e-15 after thirty steps)."""
    values = {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.01, "beta1": 0.9, "beta2": 0.99}
    start = torch.stack([TASK.init(seed) for seed in range(size)]).double()
    native, wrapped = RULES[ours], wrap(f"torch.optim.{theirs}", **options)
    ensembles = [
        Ensemble(Oracle(TASK, "direct"), rule(), start, range(size), 30, {**defaults(rule.wide), **own, "schedule": 0})
        for rule, own in (
            (native, {name: values[name_there] for name, name_there in mine.items()}),
            (wrapped, {name: values[name] for name in mine.values()}),
        )
    ]
    for _ in range(30):
        for ensemble in ensembles:
            ensemble.step()
    one, other = (each.rule.iterate(each.state) for each in ensembles)
    assert float((one - other).abs().max()) < 1e-13
