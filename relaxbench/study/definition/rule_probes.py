"""Probe a rule: where its steps lead, with which every edit of its code is noticed.

A rule from outside this package is probed with more than its defaults, which leave weight decay, noise or momentum out,
with tiny and with large gradients, where a constant or a limit matters, and on the problems of the study, whose layers
it may tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch

from relaxbench.optim.hyper import defaults, stack
from relaxbench.optim.rule import Rule
from relaxbench.problems import Problem, problem
from relaxbench.space import Choice, Int, Value
from relaxbench.study.definition.probes import Numbers, Probe, finite, repeatable
from relaxbench.study.definition.telling import SEED
from relaxbench.training.ensemble import Ensemble
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Job

OUTER_STEPS = 4
"""Outer steps of a rule: its schedules then run from their beginning to their end."""
PLACES = (0.3, 0.6)
"""Places in the range of every hyperparameter whose values are tried beside the defaults."""
QUERIES = (128, 24)
"""Gradients at least with the values of each place: a rule may change with the number of its steps."""
SIZES = {"tiny": 1e-4, "large": 1e4}
"""Factors of the start, and with it of all gradients."""
LARGEST = 50_000_000
"""Parameters times examples at most of a problem on which the steps of a rule are tried."""


def elsewhere(rule: type[Rule]) -> list[dict[str, Value]]:
    """Return values of all hyperparameters that are not their defaults, as far as the rule takes them."""
    points = []
    for index, place in enumerate(PLACES):
        values = defaults(rule.wide)
        for name, declared in rule.wide.items():
            value: Value
            if isinstance(declared, Choice):
                others = [option for option in declared.options if option != declared.default]
                value = others[index % len(others)] if others else declared.default
            elif isinstance(declared, Int):
                value = declared.low + declared.step * round(place * (declared.high - declared.low) / declared.step)
            elif declared.log:
                value = declared.low ** (1 - place) * declared.high**place
            else:
                value = declared.low + place * (declared.high - declared.low)
            if rule.refusal({**values, name: value}) is None:
                values[name] = value
        points.append(values)
    return points


def probe_rule(
    rule: type[Rule],
    options: Mapping[str, Any],
    params: Mapping[str, Value],
    twice: bool,
    others: Sequence[Mapping[str, Value]] = (),
) -> Probe:
    """Take a few outer steps of a rule on a quadratic in float64, and return where they lead.

    Args:
        rule: the class.
        options: arguments of its constructor.
        params: its defaults when the study began.
        twice: whether it is checked that the steps can be repeated.
        others: values of `elsewhere` when the study began; with none, only `params` are tried.
    """
    kind: Any = rule
    further = tuple(tuple(values.items()) for values in others)
    return _probed(kind, tuple(sorted(options.items())), tuple(params.items()), twice, further)


@lru_cache(maxsize=256)
def _probed(
    rule: Any, options: tuple[Any, ...], params: tuple[Any, ...], twice: bool, others: tuple[Any, ...]
) -> Probe:
    """Probe a rule once per process: several methods may be one rule."""

    def measure() -> Numbers:
        numbers = _steps_of(rule(**dict(options)), dict(params))
        for index, values in enumerate(others):
            for what, found in _steps_of(rule(**dict(options)), dict(values), QUERIES[index]).items():
                numbers[f"{what} {index + 1}"] = found
        for size, factor in SIZES.items() if others else ():
            numbers[size] = _scaled(rule(**dict(options)), dict(others[0]), factor)
        return numbers

    return repeatable(measure, "float64", twice)


def steps_on(rule: Rule, task: Problem, params: Mapping[str, Value]) -> list[float | None]:
    """Return how far the steps of a rule lead on a problem itself, by layer; empty if the problem is too large."""
    period = int(rule.period(stack([params], torch.device("cpu"), torch.float32))[0, 0])
    queries = 2 * period
    if task.size * task.batch_size * queries * rule.replicas > LARGEST:
        return []
    with torch.random.fork_rng(devices=[]):
        start = task.init(SEED)[None]
        ensemble = Ensemble(Oracle(task, "direct"), rule, start.clone(), [SEED], queries, params)
        for _ in range(queries):
            ensemble.step()
        way = rule.iterate(ensemble.state)[0] - start[0]
    return finite([part.norm() for part in task.trainable(way).values()])


def _steps_of(rule: Rule, params: dict[str, Value], queries: int = 0) -> Numbers:
    period = int(rule.period(stack([params], torch.device("cpu"), torch.float64))[0, 0])
    outer = max(OUTER_STEPS, math.ceil(queries / period))
    numbers = _advance(rule, params, outer * period, problem("quadratic-noisy"))
    further = rule.fingerprint(params)
    return {**numbers, "further": finite(further)} if further else numbers


def _scaled(rule: Rule, params: dict[str, Value], factor: float) -> list[float | None]:
    """Return where the steps lead from a start, and with gradients, of another size."""
    task = problem("quadratic")
    start = task.init(SEED) * factor
    task.init = lambda seed: start.clone()  # type: ignore[method-assign]
    period = int(rule.period(stack([params], torch.device("cpu"), torch.float64))[0, 0])
    return _advance(rule, params, OUTER_STEPS * period, task)["point"]


def _advance(rule: Rule, params: dict[str, Value], steps: int, task: Problem) -> Numbers:
    budget = round(steps * rule.price * rule.replicas + 0.5)
    population = Population(Oracle(task, "direct"), rule, budget, dtype=torch.float64)
    population.admit([Job(0, SEED, params)])
    _, losses, _ = population.advance(steps)
    return {"losses": finite([losses[0, 0]]), "point": finite(list(rule.iterate(population.state)[0]))}
