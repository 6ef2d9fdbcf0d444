"""`training.durations`: what is timed is what a run does."""

from __future__ import annotations

import time

import pytest
import torch

from relaxbench.optim.registry import RULES
from relaxbench.problems import problem
from relaxbench.training import durations
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("at_length")


def test_a_measurement_is_that_of_all_slots_together(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, str]] = []

    def measure(self: Oracle, points: torch.Tensor, split: str) -> None:
        seen.append((len(points), split))
        time.sleep(0.08)

    monkeypatch.setattr(Oracle, "measure", measure)
    seconds = durations.measuring(Oracle(problem("digits-mlp")), 8, CPU, "test")
    assert set(seen) == {(8, "test")}
    assert 0.08 <= seconds < 0.16


def test_runs_are_timed_in_stretches_no_longer_than_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round costs 20 ms here, and its steps nothing: 30 gradients in 15 rounds of 2 take 0.3 s."""
    task = problem("digits-mlp")
    task.rounds = 15
    seen: list[int] = []

    def advance(self: Population, steps: int) -> None:
        seen.append(steps)
        time.sleep(0.02)

    monkeypatch.setattr(Population, "advance", advance)
    took = durations.running(Oracle(task), RULES["sgd"](), 30, 4, CPU, {})
    assert max(seen) == 2 and 0.3 <= took < 0.6
