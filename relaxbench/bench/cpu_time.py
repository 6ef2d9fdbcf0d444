"""Our populations, measured by the processor time of this process: other programs disturb it less than seconds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import torch

from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems import SupervisedProblem
from relaxbench.training.compilation import compiled_step
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Job

STEPS = 64
"""Steps that are taken together, about as many as between two measurements of a study."""


class OurPopulation:
    """A population, without measurements. Satisfies `interleave.Contender`, in gradients per CPU-second.

    Args:
        problem: what is trained.
        rule: name of a built-in rule, which trains with its defaults.
        size: K.
        compiled: whether the step is compiled.

    Raises:
        UnfitError: if the step cannot be compiled.
        NoCompilerError: if nothing can be compiled here.
    """

    def __init__(self, problem: SupervisedProblem, rule: str, size: int, compiled: bool) -> None:
        made = RULES[rule]()
        step = compiled_step(problem, made, size) if compiled else None
        self.seconds = 0.0 if step is None else step.seconds
        self.population = Population(Oracle(problem), made, 10**9, compiled=step)
        self.population.admit([Job(i, i, defaults(made.wide)) for i in range(size)])
        self.gradients = size * STEPS * self.population.price
        self.population.advance(8)  # the first steps allocate

    def rate(self, seconds: float) -> float:
        """Return gradients per CPU-second over the next stretch, of at least this many CPU-seconds."""

        def work() -> float:
            self.population.advance(STEPS)
            return self.gradients

        return cpu_rate(work, seconds)


def cpu_rate(work: Callable[[], float], seconds: float) -> float:
    """Return what some work returns, per CPU-second of this process, over at least so many of them."""
    begin, done = time.process_time(), 0.0
    while done == 0 or time.process_time() - begin < seconds:
        done += work()
    return done / (time.process_time() - begin)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch use one thread within this block."""
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(usual)
