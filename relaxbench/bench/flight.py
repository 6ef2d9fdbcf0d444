"""Our population, as a contender in comparisons of speed."""

from __future__ import annotations

import time

import torch

from relaxbench.bench.interleave import stretch, synchronize
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems import SupervisedProblem
from relaxbench.training.oracle import Oracle, Path
from relaxbench.training.population import Population
from relaxbench.training.precision import Precision
from relaxbench.training.trial import Job


class Flight:
    """A running population, without evaluations. Satisfies `interleave.Contender`; counts members' steps.

    Args:
        problem: trained with SGD and its defaults.
        path, size: of the engine.
        device: where.
        lead: untimed steps before a stretch.
        precision: of the model.
    """

    def __init__(
        self,
        problem: SupervisedProblem,
        path: Path,
        size: int,
        device: torch.device,
        lead: int = 1,
        precision: Precision = "float32",
    ) -> None:
        rule = RULES["sgd"]()
        self.size, self.device, self.lead, self.chunk = size, device, lead, 1
        self.population = Population(Oracle(problem, path, precision), rule, budget=10**9, device=device)
        self.population.admit([Job(i, i, defaults(rule.wide)) for i in range(size)])
        self.longest = -(-problem.budget // problem.rounds)  # steps between two measurements of a study
        self.step()  # the first step allocates memory

    def step(self) -> int:
        """Advance by a part of a round."""
        self.population.advance(self.chunk)
        return self.size * self.chunk

    def fit(self, seconds: float) -> None:
        """Make rounds as long as a study's, unless those outlast a stretch of this duration."""
        start = time.perf_counter()
        self.population.advance(1)
        synchronize(self.device)
        self.chunk = max(1, min(self.longest, int(seconds / 2 / (time.perf_counter() - start))))

    def rate(self, seconds: float) -> float:
        """Return members' steps per second."""
        self.fit(seconds)
        return stretch(self.step, seconds, self.device, self.lead)
