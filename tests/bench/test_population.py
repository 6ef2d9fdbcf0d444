"""The loop that a population is compared with."""

from __future__ import annotations

import torch

from relaxbench.bench.population import plain_steps_per_second


def test_the_plain_loop_counts_steps() -> None:
    rate = plain_steps_per_second(torch.device("cpu"), seconds=0.05)
    assert 10 < rate < 1e6
