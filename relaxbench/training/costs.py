"""The cost of a gradient of each method: time, measured in turn with the others, and memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from relaxbench.optim.hyper import defaults
from relaxbench.optim.rule import Rule
from relaxbench.problems import Problem
from relaxbench.training.memory import LiveBytes, does_not_fit, out_of_memory
from relaxbench.training.oracle import Oracle, Path
from relaxbench.training.population import Population
from relaxbench.training.precision import Precision, dtype_for
from relaxbench.training.trial import Job

LEAST, MOST = 8, 40
"""Stretches of each method: the least, and the most, on a busy machine."""
SLOW, PATIENCE_SECONDS = 3, 4.0
"""Stretches that suffice once this time per method has passed."""
KEPT_BYTES = 1 << 30
"""Memory of the states of all methods that may be held at once."""
GOAL = 0.03
"""Spread at which a calibration is complete: the ratio of two costs then repeats within 5 %."""
SHARE = 0.05
"""Part of the time of a study's trials after which the least number of stretches suffices: a short study on a busy
machine has less exact costs, instead of a calibration that takes as long as its trials."""
STRETCH_SECONDS, STRETCH_STEPS = 0.02, 60
"""A stretch lasts until both are reached, or `LONGEST_SECONDS`: then it has all that a rule does now and then."""
LONGEST_SECONDS = 0.1
WIDTH = 2.2 * math.sqrt(math.pi / 2)
"""Half-width of an interval in standard deviations over √rounds: that of a median, and 2.2 instead of 1.96, because a
polish leaves residuals that are a little too small. Simulated intervals of ratios then cover 95 %."""


def expected_seconds(gradient: float, allowed: float = math.inf) -> float:
    """How long `calibrate` takes for each method, about, if a gradient takes so many seconds.

    Args:
        gradient: seconds of a gradient.
        allowed: as for `calibrate`, for one method.
    """
    stretch = min(max(STRETCH_STEPS * gradient, STRETCH_SECONDS), max(LONGEST_SECONDS, gradient))
    usual = min((LEAST + MOST) / 2 * stretch, max(LEAST * stretch, allowed))
    return min(usual, max(PATIENCE_SECONDS, SLOW * stretch)) + 2 * gradient


class Stopwatch:
    """Times gradients of one member on the direct path, in stretches of equal length.

    On the CPU with one thread, the process's own time counts, so that programs that take turns with it do not.

    Args:
        problem: what is trained.
        rule: the mathematics of the method.
        device: where.
        precision: of the model's matrix products.
        params: hyperparameters that differ from the defaults.
    """

    def __init__(
        self, problem: Problem, rule: Rule, device: torch.device, precision: Precision = "float32", **params: float
    ) -> None:
        self.device = device
        own_time = device.type == "cpu" and torch.get_num_threads() == 1
        self._now = time.process_time if own_time else time.perf_counter
        self._population = Population(Oracle(problem, "direct", precision), rule, budget=10**9, device=device)
        self._population.admit([Job(0, 0, {**defaults(rule.wide), **params})])
        period = self._population.slots[0].period
        self.steps = 1
        self.stretch()  # the first call allocates
        each = self.stretch()
        long = max(STRETCH_STEPS, math.ceil(STRETCH_SECONDS / each))
        most = max(1, math.floor(LONGEST_SECONDS / each))
        # Whole outer steps, where they fit.
        self.steps = min(
            math.ceil(long / period) * period, max(most // period * period, 1 if most < period else period)
        )

    def stretch(self) -> float:
        """Return the seconds per gradient equivalent of the next stretch."""
        start = self._now()
        self._population.advance(self.steps)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return (self._now() - start) / (self.steps * self._population.price)


def calibrate(
    problem: Problem,
    rules: Sequence[Rule],
    device: torch.device,
    precision: Precision = "float32",
    begin: Callable[[int], bool] = lambda index: True,
    allowed: float = math.inf,
    path: Path = "direct",
) -> list[dict[str, float]]:
    """Measure the time of one gradient of each rule at K = 1 on the direct path, and the memory of a step.

    Args:
        problem: what is trained.
        rules: the mathematics of each method, with default hyperparameters.
        device: where.
        precision: of the model's matrix products.
        begin: called with the index of a rule before it is timed; False stops.
        allowed: seconds of the stretches of all rules, after which `LEAST` of each suffice whatever their spread is.
        path: on which memory is measured: that of the trials.

    Returns:
        for each rule ``seconds_per_gradient``, with the arithmetic of the rule, and ``seconds_spread``, see `levels`;
        ``peak_bytes``, see `peak_bytes`. Nothing if `begin` has stopped it.

    Raises:
        UserError: if memory does not suffice.
    """
    try:
        memory = [peak_bytes(problem, rule, device, precision, path) for rule in rules]
        watch = _watches(problem, rules, device, precision)
        times: list[list[float]] = []
        begun = time.monotonic()
        seconds, spread = np.array([]), np.array([math.inf])

        def enough() -> int:
            passed = time.monotonic() - begun
            if passed > PATIENCE_SECONDS * len(rules):
                return SLOW
            return LEAST if passed > allowed or spread.max() <= GOAL else MOST

        while len(times) < enough():
            order = [(first + len(times)) % len(rules) for first in range(len(rules))]
            measured = {}
            for index in order if len(times) % 2 else order[::-1]:
                if not begin(index):
                    return []
                measured[index] = watch(index).stretch()
            times.append([measured[index] for index in range(len(rules))])
            seconds, spread = levels(np.array(times))
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error):
            raise does_not_fit(problem.name, device) from None
        raise
    return [
        {
            "seconds_per_gradient": float(seconds[index]),
            "seconds_spread": float(spread[index]),
            "peak_bytes": memory[index],
        }
        for index in range(len(rules))
    ]


def _watches(
    problem: Problem, rules: Sequence[Rule], device: torch.device, precision: Precision
) -> Callable[[int], Stopwatch]:
    """Return a stopwatch of each rule by its index: kept, or made anew each time where all together are large."""

    def make(index: int) -> Stopwatch:
        return Stopwatch(problem, rules[index], device, precision)

    if sum(rule.copies for rule in rules) * problem.size * dtype_for(problem, precision).itemsize > KEPT_BYTES:
        return make
    return [make(index) for index in range(len(rules))].__getitem__


def peak_bytes(
    problem: Problem, rule: Rule, device: torch.device, precision: Precision = "float32", path: Path = "direct"
) -> int:
    """Measure the peak memory of one member while it takes the steps of an outer step, and the first of the next.

    State, activations, the gradient and the temporary results of the rule count. On CUDA the allocator is asked. On
    the CPU the results of PyTorch's operations count, but not the temporaries within an operation, nor what the
    allocator leaves unused.

    Args:
        problem: what is trained.
        rule: the mathematics of the method; an inner loop has two steps here, which hold as much as many.
        device: where.
        precision: of the model's matrix products.
        path: of the gradients: vectorized ones hold more at once, of several replicas for example.
    """
    short = {"inner_steps": 2.0} if "inner_steps" in rule.wide else {}

    def step() -> None:
        population = Population(Oracle(problem, path, precision), rule, budget=10**9, device=device)
        population.admit([Job(0, 0, {**defaults(rule.wide), **short})])
        population.advance(population.slots[0].period + 1)

    first = torch.zeros(1, 1, dtype=torch.int64, device=device)
    problem.sampler([0], [0], 1, device).batch(first)  # the data set itself belongs to no member
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return int(torch.cuda.max_memory_allocated(device) - before)
    live = LiveBytes()
    with live:
        step()
    return live.peak


def levels(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Estimate the methods' times from rounds in which all were measured, some while the machine was busy.

    The logarithm of a time is the method's level plus the round's, fitted by median polish (Tukey, 1977): a round in
    which the machine was slow moves no ratio of two methods, and a single disturbed stretch moves nothing.

    Args:
        times: ``[rounds, methods]``, positive.

    Returns:
        the time of each method, in a round as fast as the fastest quarter; and its spread, the relative half-width of
        a 95 % interval, from the size of two thirds of its residuals. It is 0 where a single method was timed. The
        spread of a ratio is the root of the sum of squares of both.
    """
    logs = np.log(times)
    method, turn = np.median(logs, axis=0), np.zeros(len(logs))
    for _ in range(10):
        turn = np.median(logs - method, axis=1)
        method = np.median(logs - turn[:, None], axis=0)
    residuals = np.abs(logs - method - turn[:, None])
    rounds, methods = logs.shape
    freedom = (methods / max(1, methods - 1)) * (rounds / max(1, rounds - 1))
    deviation = np.quantile(residuals, 0.683, axis=0) * math.sqrt(freedom)
    return np.exp(method + np.quantile(turn, 0.25)), WIDTH * deviation / math.sqrt(rounds)
