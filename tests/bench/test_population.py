"""The loop that a population is compared with."""

from __future__ import annotations

import torch

from relaxbench.bench.population import plain_loop
from relaxbench.problems.digits import digits_mlp


def test_the_plain_loop_counts_steps() -> None:
    rate = plain_loop(digits_mlp(), torch.device("cpu"), seconds=0.05)
    assert 10 < rate < 1e6
