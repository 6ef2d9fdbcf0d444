"""The compiled population beside the vectorized one, in turn: ``python -m relaxbench.bench.compiled``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence

import torch

from relaxbench.bench.workloads import WORKLOADS
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems import SupervisedProblem
from relaxbench.training.compilation import compiled_step
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Job

CASES = (("sgd", 8), ("sgd", 32), ("sgd", 128))
"""Rule and K."""
ROUNDS, STEPS = 7, 64
"""Stretches of each population, and the steps of one."""


def measure(
    task: SupervisedProblem, cases: Sequence[tuple[str, int]] = CASES, rounds: int = ROUNDS
) -> Iterator[tuple[str, int, float, float]]:
    """Measure member-steps per CPU-second of this process, the median of stretches in turn.

    Yields:
        for each case rule, K, and the rates of the vectorized and the compiled population.

    Raises:
        UnfitError: if a step cannot be compiled.
        NoCompilerError: if nothing can be compiled here.
    """
    for name, size in cases:
        populations = []
        for compiled in (False, True):
            rule = RULES[name]()
            step = compiled_step(task, rule, size) if compiled else None
            population = Population(Oracle(task), rule, 10**9, compiled=step)
            population.admit([Job(i, i % 8, defaults(rule.wide)) for i in range(size)])
            population.advance(8)  # the first steps allocate
            populations.append(population)
        rates: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            for population, found in zip(populations, rates, strict=True):
                begin = time.process_time()
                population.advance(STEPS)
                found.append(size * STEPS / (time.process_time() - begin))
        yield name, size, statistics.median(rates[0]), statistics.median(rates[1])


def main() -> None:
    """Print the rates on the digits, with one thread."""
    torch.set_num_threads(1)
    for name, size, vectorized, compiled in measure(WORKLOADS["digits-mlp"].problem()):
        print(
            f"{name}, K = {size}: vectorized {vectorized:,.0f}, compiled {compiled:,.0f} member-steps per CPU-second, "
            f"{compiled / vectorized:.2f} ×",
            flush=True,
        )


if __name__ == "__main__":
    main()
