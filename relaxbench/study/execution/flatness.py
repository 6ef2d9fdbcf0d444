"""Measure the flatness of runs when they end, one at a time.

A measurement costs as much as dozens of gradients of the whole training set, and a study confirms hundreds of trials.
So it is made where it says something about tuned settings, and as far as a quarter of training pays for it: see
`Plan.is_flatness_planned` and `study.definition.flatness_share`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from relaxbench.problems import Problem
from relaxbench.store.schema import Trial
from relaxbench.study.coordination.plan import Plan
from relaxbench.training.durations import seconds, start
from relaxbench.training.flatness.hessian import Hessian
from relaxbench.training.flatness.measure import MOST, FlatnessError, flatness
from relaxbench.training.flatness.spectrum import amount
from relaxbench.training.trial import Outcome


@dataclass
class FlatnessMeter:
    """Measures the flatness of runs and adds the passes to their ledgers.

    Args:
        announce: receives one line for people per problem whose flatness cannot be measured.
    """

    announce: Callable[[str], None]
    refused: set[str] = field(default_factory=set)

    def measure(
        self, plan: Plan, trial: Trial, problem: Problem, outcome: Outcome, device: torch.device
    ) -> dict[str, Any]:
        """Return the measures of flatness to store with an outcome; empty where none is planned, or it diverged.

        Where it cannot be measured, ``flatness_error`` says why.
        """
        if outcome.diverged or not plan.is_flatness_planned(trial):
            return {}
        try:
            examples = plan.flat["examples"] if plan.flat else None
            result = flatness(problem, outcome.weights.to(device), outcome.job.seed, examples)
        except FlatnessError as error:
            if problem.name not in self.refused:
                self.refused.add(problem.name)
                self.announce(f"{problem.name}: flatness of a run could not be measured ({error}); the run counts")
            return {"flatness_error": str(error)}
        outcome.ledger.bill_measurement(result.passes, problem.batch_size)
        return result.measures()


QUICK_SECONDS = 2.0
"""A measurement that is expected to take less is made as a whole, to time it."""


def duration(problem: Problem, device: torch.device, examples: int | None = None) -> float:
    """Seconds to measure the flatness of a run, of a long one from a product; 0 where it cannot be measured.

    Args:
        problem: the problem.
        device: where it is measured.
        examples: in the loss; None for as many as a full measurement has.
    """
    if problem.size > MOST:
        return 0.0
    x = start(problem, device, 1)[0]
    width, times = amount(problem.size)
    with suppress(Exception):  # the study says why, and its runs count
        hessian, vectors = Hessian(problem, x, examples), torch.randn(problem.size, width).to(x)
        expected = seconds(lambda: hessian @ vectors, device) * times
        return seconds(lambda: flatness(problem, x, 0, examples), device) if expected < QUICK_SECONDS else expected
    return 0.0
