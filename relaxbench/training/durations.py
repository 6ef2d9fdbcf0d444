"""How long runs of a population take on this machine, and how long to measure them on held-out data."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from relaxbench.optim.hyper import defaults
from relaxbench.optim.rule import Rule
from relaxbench.problems import Problem
from relaxbench.space import Value
from relaxbench.training.compiled import CompiledStep
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.precision import dtype_of
from relaxbench.training.trial import Job

ENOUGH, LONG = 0.3, 10.0
"""Seconds that are spent to time something after the first time, which also imports and allocates; a first time that is
longer than the second number is taken as it is."""
STRETCH_SECONDS = 0.05
"""Steps that take so long are timed together, if a round has so many."""


def running(
    oracle: Oracle,
    rule: Rule,
    budget: int,
    size: int,
    device: torch.device,
    params: Mapping[str, Value],
    compiled: CompiledStep | None = None,
) -> float:
    """Seconds of as many runs as there are slots, from the first gradient to the last.

    A stretch is no longer than a round of a study, because a round has costs of its own. Measurements are not included.

    Args:
        oracle: problem, path and precision.
        rule: the mathematics of the method.
        budget: gradient equivalents per run.
        size: K, the number of slots.
        device: where they run.
        params: hyperparameters that differ from the defaults.
        compiled: takes the steps, if it is given.
    """
    length = Population(oracle, rule, budget, device).round_length
    population = Population(oracle, rule, 10**9, device, compiled=compiled)
    values = {**defaults(rule.wide), **params}
    population.admit([Job(i, i % 8, values) for i in range(size)])  # eight seeds: drawing weights is not timed
    steps = 1
    took = seconds(lambda: population.advance(steps), device)
    while took < STRETCH_SECONDS and steps < length:
        steps = min(length, 4 * steps)
        took = seconds(lambda steps=steps: population.advance(steps), device)  # type: ignore[misc]
    return took / steps * math.floor(budget / population.price)


def measuring(oracle: Oracle, size: int, device: torch.device, split: str) -> float:
    """Seconds to measure runs in `size` slots on a split once, batch-normalization statistics included."""
    points = start(oracle.problem, device, size).to(dtype_of(oracle.precision))
    return seconds(lambda: oracle.measure(points, split), device)


def start(problem: Problem, device: torch.device, size: int) -> Tensor:
    """Initial weights ``[size, P]``, the same in every slot."""
    return problem.init(0).to(device, problem.dtype).expand(size, -1).contiguous()


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """The median duration of some work, without the first time unless that is long."""
    times: list[float] = []
    while not times or (times[0] < LONG and (len(times) < 2 or (len(times) < 6 and sum(times[1:]) < ENOUGH))):
        begin = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:] or times)
