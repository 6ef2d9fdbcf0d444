"""A custom problem through the whole engine, against its closed form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems import SupervisedProblem
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Job, Outcome


def line() -> SupervisedProblem:
    """Regression on a line with disturbed values."""
    x = torch.linspace(-1, 1, 80)[:, None]
    y = 3 * x - 1 + 0.1 * torch.sin(37 * x)
    data = {"train": (x, y), "validation": (x, y), "test": (x[::2], y[::2])}
    options: dict[str, Any] = {"loss": "least-squares", "batch_size": 8, "budget": 400, "worst": 100.0}
    return SupervisedProblem("line", lambda: nn.Linear(1, 1), lambda: data, **options)


def train(task: SupervisedProblem, rule: str, **params: Any) -> Outcome:
    got: list[Outcome] = []
    queue = [Job(0, 1, {**defaults(RULES[rule].wide), **params}, test=True)]
    population = Population(Oracle(task), RULES[rule](), task.budget)
    population.run(lambda free: [queue.pop() for _ in queue[:free]], got.extend, 1)
    return got[0]


@pytest.mark.parametrize("rule", ["sgd", "entropy-sgd"])
def test_least_squares_reach_the_solution_of_the_normal_equations(rule: str) -> None:
    task = line()
    outcome = train(task, rule, weight_decay=0.0)
    x, y = task.tensors["train"]
    design = torch.cat([x, torch.ones_like(x)], dim=1).double()
    solution = torch.linalg.lstsq(design, y.double()).solution[:, 0]
    best = ((design @ solution - y[:, 0].double()) ** 2).mean().item()
    assert outcome.weights.double().numpy() == pytest.approx(solution.numpy(), abs=0.05)
    assert best <= outcome.value + 1e-6 and outcome.value < best + 0.01
    test_x, test_y = task.tensors["test"]
    a, b = outcome.weights
    mean_square = ((a * test_x + b - test_y) ** 2).mean().item()
    assert outcome.measures["test_metric"] == outcome.measures["test_loss"] == pytest.approx(mean_square, rel=1e-4)
    assert outcome.correct is None
