"""`training.durations`: what is timed is what a run does."""

from __future__ import annotations

import time

import pytest
import torch

from relaxbench.problems import problem
from relaxbench.training import durations
from relaxbench.training.oracle import Oracle

CPU = torch.device("cpu")


def test_a_measurement_is_that_of_all_slots_together_per_run(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, str]] = []

    def measure(self: Oracle, points: torch.Tensor, split: str) -> None:
        seen.append((len(points), split))
        time.sleep(0.08)

    monkeypatch.setattr(Oracle, "measure", measure)
    seconds = durations.measuring(Oracle(problem("digits-mlp")), 8, CPU, "test")
    assert set(seen) == {(8, "test")}
    assert 0.01 <= seconds < 0.02
