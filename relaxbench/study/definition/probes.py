"""Probe a problem and a rule: a few numbers that any change of their code changes, and no other machine does.

They are computed at seeded points in float64 and compared with a relative tolerance, never by a hash, because another
machine or number of threads adds in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from relaxbench.optim.hyper import stack
from relaxbench.optim.rule import Rule
from relaxbench.problems import Batch, Problem, problem
from relaxbench.space import Value
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Job

Numbers = dict[str, list[float | None]]
"""Numbers of a probe by what they are; None for one that is not finite."""
SEED = 20_000_003
EXAMPLES = 8
"""Examples of the mini-batch: enough for any layer, and few enough for a large network on one core."""
OUTER_STEPS = 4
"""Outer steps of a rule: its schedules then run from their beginning to their end."""
TOLERANCE = {"float64": 1e-6, "float32": 1e-3}
"""Largest difference of equal numbers, relative to the larger one."""
FLOOR = {"float64": 1e-9, "float32": 1e-5}
"""The same, relative to the largest number of its list: a gradient that vanishes is rounding noise."""


def probe_problem(task: Problem, twice: bool) -> tuple[str, Numbers]:
    """Measure a problem at a seeded point: in float64 if its model can.

    Args:
        task: the problem; its data are here.
        twice: also check that the numbers can be repeated. They are left out if not.

    Returns:
        the precision, and the numbers: of the initial weights and of every gradient the length of each tensor; the loss
        in training and in evaluation.
    """
    for dtype in (torch.float64, torch.float32):
        name = str(dtype).removeprefix("torch.")
        numbers = _repeatable(lambda dtype=dtype: _numbers_of(task, dtype), name, twice)  # type: ignore[misc]
        if numbers is not None:
            return name, numbers
    return "float32", {}


def probe_rule(rule: type[Rule], options: Mapping[str, Any], params: Mapping[str, Value], twice: bool) -> Numbers:
    """Take a few outer steps of a rule on a quadratic in float64, and return where they lead; empty if it cannot."""
    kind: Any = rule
    return _probed(kind, tuple(sorted(options.items())), tuple(params.items()), twice)


@lru_cache(maxsize=256)
def _probed(rule: Any, options: tuple[Any, ...], params: tuple[Any, ...], twice: bool) -> Numbers:
    """Probe a rule once per process: several methods may be one rule."""
    return _repeatable(lambda: _steps_of(rule(**dict(options)), dict(params)), "float64", twice) or {}


def differs(was: list[float | None], now: list[float | None], precision: str) -> bool:
    """Return whether two lists of numbers are different beyond rounding."""
    if len(was) != len(now):
        return True
    largest = max((abs(number) for number in (*was, *now) if number is not None), default=0.0)
    for old, new in zip(was, now, strict=True):
        if old is None or new is None:
            if old is not new:
                return True
        elif abs(old - new) > TOLERANCE[precision] * max(abs(old), abs(new)) + FLOOR[precision] * largest:
            return True
    return False


def _repeatable(measure: Callable[[], Numbers], precision: str, twice: bool) -> Numbers | None:
    """Return the numbers of a measurement; none at all if a second one differs; None if it fails."""
    numbers: list[Numbers] = []
    for _ in range(2 if twice else 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            try:
                numbers.append(measure())
            except Exception:  # what a model of a person, or a rule, raises in another precision may be of any kind
                return None
    first, last = numbers[0], numbers[-1]
    return {} if any(differs(first[name], last[name], precision) for name in first) else first


def _numbers_of(task: Problem, dtype: torch.dtype) -> Numbers:
    start = task.init(SEED).to(dtype)
    # Off the start, where whole layers may be zero: then no gradient would reach the others.
    wave = torch.sin(1.7 * torch.arange(len(start), dtype=torch.float64)).to(dtype)
    point = start + 0.05 * (0.1 + start.square().mean().sqrt()) * wave
    batch = _few(task)
    params = {name: value.detach().clone().requires_grad_() for name, value in task.unflatten(point).items()}
    loss = task.loss.value(task.outputs(params, {**batch}, True), batch)
    gradient = torch.autograd.grad(loss, list(params.values()), allow_unused=True, materialize_grads=True)
    batch = _few(task)  # anew: a model may write into its input
    with torch.no_grad():
        own = task.unflatten(point)
        own = {**own, **task.statistics(own, {**batch})}
        evaluated = task.loss.value(task.outputs(own, {**batch}, False), batch)
    return {
        "start": _finite([value.norm() for value in task.unflatten(start).values()]),
        "training": _finite([loss]),
        "gradient": _finite([value.norm() for value in gradient]),
        "evaluation": _finite([evaluated]),
    }


def _few(task: Problem) -> Batch:
    """Return the first examples of the first mini-batch."""
    sampler = task.sampler([SEED], [0], 1, torch.device("cpu"))
    batch = {name: value[0] for name, value in sampler.batch(torch.zeros(1, 1, dtype=torch.int64)).items()}
    whole = task.batch_size
    return {name: value[:EXAMPLES] if value.dim() and len(value) == whole else value for name, value in batch.items()}


def _steps_of(rule: Rule, params: dict[str, Value]) -> Numbers:
    period = int(rule.period(stack([params], torch.device("cpu"), torch.float64))[0, 0])
    steps = OUTER_STEPS * period
    budget = round(steps * rule.price * rule.replicas + 0.5)
    population = Population(Oracle(problem("quadratic-noisy"), "direct"), rule, budget, dtype=torch.float64)
    population.admit([Job(0, SEED, params)])
    _, losses, _ = population.advance(steps)
    return {"losses": _finite([losses[0, 0]]), "point": _finite(list(rule.iterate(population.state)[0]))}


def _finite(values: list[Tensor]) -> list[float | None]:
    return [float(value) if bool(torch.isfinite(value)) else None for value in (each.detach() for each in values)]
