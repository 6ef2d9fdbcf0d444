"""Our population as a contender."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from relaxbench.bench.flight import Flight
from relaxbench.problems.digits import digits_mlp

CPU = torch.device("cpu")


@pytest.mark.parametrize(("path", "size"), [("vectorized", 4), ("direct", 1)])
def test_a_flight_counts_the_steps_of_its_members(path: Any, size: int) -> None:
    problem = digits_mlp()
    flight = Flight(problem, path, size, CPU)
    before = flight.population.slots[0].ledger.gradients
    flight.chunk = 7
    assert flight.step() == 7 * size
    assert [slot.ledger.gradients - before for slot in flight.population.slots] == [7] * size
    assert flight.rate(0.02) > 0
    assert 1 <= flight.chunk <= problem.budget / problem.rounds  # a round is never longer than a study's
