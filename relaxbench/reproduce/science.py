"""Errors of scientific problems with one setting per method, beside published ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems import Problem, problem
from relaxbench.space import Value
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Job, Outcome

STEPS, LONG = "after 1,000 steps of the best setting", "after 1,000 s; best of at most 50 settings by the test error"
HJB = "Adam, 30,000 epochs, 10,000 samples, noise 10^(−½)"


@dataclass(frozen=True)
class Row:
    """A method with one setting, chosen beforehand, on a problem.

    Attributes:
        problem, method: names.
        published: the published metric; None where there is none for this method.
        protocol: of the published figure, or what ours stands beside.
        params: the setting; the rest are the default space's values, without weight decay.
        budget: gradients per run; None for the problem's own.
    """

    problem: str
    method: str
    published: float | None
    protocol: str
    params: Mapping[str, Value]
    budget: int | None = None


ROWS = (
    Row("pinn-poisson2d", "sgd", 0.072, STEPS, {"lr": 0.1}, 1000),
    Row("pinn-poisson2d", "adamw", 0.24, f"Adam {STEPS}", {"adam_lr": 0.01}, 1000),
    Row("pinn-poisson2d", "levenberg-marquardt", 1.6e-6, f"Hessian-free {STEPS}", {"damping": 0.01}, 1000),
    Row("pinn-poisson2d", "lbfgs", 3.6e-4, LONG, {}, 1000),
    Row("pinn-poisson2d", "adam-lbfgs", None, "not among the published methods", {"adam_lr": 0.01}, 1000),
    Row("pinn-poisson2d", "lbfgs", 3.6e-4, LONG, {}),
    Row("pinn-poisson2d", "adam-lbfgs", None, "not among the published methods", {"adam_lr": 0.01}),
    Row("pinn-poisson2d", "levenberg-marquardt", 6.4e-7, f"Hessian-free {LONG}", {"damping": 0.01}),
    Row("multigrid-prolongation", "adamw", 0.074, "black-box multigrid, measured here", {"adam_lr": 0.01}),
    Row("pde-id-hjb", "adam-lbfgs", 2.9e-2, HJB, {"adam_lr": 0.01}, 2000),
)
"""Published errors of Poisson's equation are twice the absolute ones of f-dangel/kfac-pinns-experiments."""


@dataclass(frozen=True)
class Measured:
    """A row with our runs.

    Attributes:
        row: what was run.
        budget: gradients per run.
        errors: the test metric of every run.
    """

    row: Row
    budget: int
    errors: Sequence[float]

    def interval(self) -> tuple[float, float, float]:
        """Return the geometric mean of the errors and its 95 % interval, from Student's t on their logarithms."""
        logs = np.log(self.errors)
        half = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs))
        return math.exp(logs.mean()), math.exp(logs.mean() - half), math.exp(logs.mean() + half)


def setting_of(method: str, task: Problem, params: Mapping[str, Value]) -> dict[str, Value]:
    """Return a value for every hyperparameter of a method on a problem."""
    rule = RULES[method]
    values = {**defaults(rule.wide), **rule.default_fixed, "weight_decay": 0.0, **task.fixed, **params}
    return {name: values[name] for name in rule.wide}


def trained(task: Problem, method: str, params: Mapping[str, Value], budget: int, runs: int) -> list[Outcome]:
    """Train a method with seeds 0 … runs − 1, and measure the test split."""
    ended: list[Outcome] = []
    jobs = [Job(seed, seed, setting_of(method, task, params), test=True) for seed in range(runs)]

    def feed(free: int) -> list[Job]:
        return [jobs.pop(0) for _ in range(min(free, len(jobs)))]

    Population(Oracle(task, "vectorized"), RULES[method](), budget).run(feed, ended.extend, runs)
    return sorted(ended, key=lambda outcome: outcome.job.seed)


def measure(runs: int, rows: Sequence[Row] = ROWS) -> Iterator[Measured]:
    """Train every row, and yield it with its errors."""
    for row in rows:
        task = problem(row.problem)
        budget = row.budget or task.budget
        outcomes = trained(task, row.method, row.params, budget, runs)
        yield Measured(row, budget, [outcome.measures["test_metric"] for outcome in outcomes])


def sentence(own: Measured) -> str:
    """Say in one line what was measured, and what was published."""
    row, (mean, low, high) = own.row, own.interval()
    published = "" if row.published is None else f"published {row.published:.2g}, "
    ours = f"{mean:.2g} ({low:.2g} to {high:.2g}) after {own.budget:,} gradients"
    return f"{row.problem}, {row.method}: {ours}; {published}{row.protocol}"
