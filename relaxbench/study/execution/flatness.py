"""Flatness of the runs that are tested, measured when they end: one run at a time, whatever ended beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from relaxbench.problems import Problem
from relaxbench.training.flatness.measure import FlatnessError, flatness
from relaxbench.training.trial import Outcome


@dataclass
class FlatnessMeter:
    """Measures, bills, and says once for a problem if it cannot.

    Args:
        announce: receives a line for people.
    """

    announce: Callable[[str], None]
    refused: set[str] = field(default_factory=set)

    def measure(self, problem: Problem, outcome: Outcome, device: str) -> dict[str, Any]:
        """What is stored beside the other measures of an outcome; nothing for a run that is not tested or diverged."""
        if not outcome.job.test or outcome.diverged:
            return {}
        try:
            found = flatness(problem, outcome.weights.to(torch.device(device)), outcome.job.seed)
        except FlatnessError as error:
            if problem.name not in self.refused:
                self.refused.add(problem.name)
                self.announce(f"{problem.name}: flatness of a run could not be measured ({error}); the run counts")
            return {}
        outcome.ledger.bill_measurement(found.passes, problem.batch_size)
        return found.measures()
