"""Measurements cost at most a quarter of training, counted in the ledger of real runs."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import nn

from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems import SupervisedProblem, problem
from relaxbench.problems.landscapes.linear_net import LinearNet
from relaxbench.problems.measurements import Sizes, affordable, say_expensive
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Job, Outcome


def task(budget: int, validation: int, **options: Any) -> SupervisedProblem:
    """A network with batch normalization."""
    generator = torch.Generator().manual_seed(0)

    def part(size: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(size, 3, generator=generator)
        return x, (x[:, 0] > 0).long()

    data = {"train": part(600), "validation": part(validation), "test": part(40)}
    network = lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))  # noqa: E731
    return SupervisedProblem("short", network, lambda: data, batch_size=16, budget=budget, **options)


def run(p: SupervisedProblem) -> Outcome:
    """A run that is tested."""
    rule, done = RULES["sgd"](), list[Outcome]()
    jobs = iter([[Job(0, 0, defaults(rule.wide), test=True)], []])
    Population(Oracle(p, "direct"), rule, p.budget).run(lambda free: next(jobs), done.extend, 1)
    return done[0]


@pytest.mark.parametrize(("budget", "validation"), [(200, 50), (150, 20), (400, 700)])
def test_a_tested_run_spends_a_quarter_on_measurements_and_no_more(budget: int, validation: int) -> None:
    p = task(budget, validation)
    bill = run(p).ledger
    assert 0.15 * bill.total < bill.measurement <= 0.25 * bill.total
    assert bill.measurement == pytest.approx(p.measurements.share * budget, rel=0.12)  # the last round is shorter
    assert say_expensive("short", p.measurements) == ""


def test_what_is_stated_stays_and_what_cannot_be_cheaper_is_said() -> None:
    stated = task(200, 50, rounds=20)
    assert run(stated).curve.shape[1] == 20
    short = task(30, 500)
    assert run(short).curve.shape[1] == 3
    for p, share in ((stated, (20 * (50 + 256) + 40 + 256) / 48 / 200), (short, (3 * 756 + 296) / 48 / 30)):
        assert f"{p.rounds} rounds cost {100 * share:.0f} % of a tested run's training" in say_expensive(
            p.name, p.measurements
        )


def test_as_many_rounds_as_fit_and_fewer_examples_only_for_ten_of_them() -> None:
    """Against a search through all numbers."""
    for budget, validation, test, full in itertools.product((50, 500, 5000), (10, 900), (0, 300), (0, 300, 5000)):
        found = affordable(budget, Sizes(validation, test, full, 32), most=20)

        def cost(rounds: int, statistics: int, rest: tuple[int, int] = (validation, test)) -> float:
            return (rounds * (rest[0] + statistics) + rest[1] + statistics) / (3 * 32)

        least = min(full, 256)
        assert least <= found.statistics <= full and 3 <= found.rounds <= 20
        if cost(3, least) <= budget / 4:
            assert cost(found.rounds, found.statistics) <= budget / 4
        if found.rounds < 20:
            assert found.rounds == 3 or cost(found.rounds + 1, found.statistics) > budget / 4
        if found.statistics < full:
            assert found.statistics == least or cost(10, found.statistics + 1) > budget / 4


def test_the_whole_batch_of_the_linear_network_is_one_gradient() -> None:
    p = problem("linear-net")
    assert isinstance(p, LinearNet) and p.batch_size == len(p.split("train", torch.device("cpu"))["x"])
    assert p.measurements.share == pytest.approx((100 + 1) / 3 / 400)
