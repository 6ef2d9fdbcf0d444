"""How long a measurement of runs on held-out data takes."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from relaxbench.problems import Problem
from relaxbench.training.oracle import Oracle

ENOUGH, LONG = 0.5, 10.0
"""Seconds that are spent to time something after the first time, which also imports and allocates; a first time that is
longer than the second number is taken as it is."""


def measuring(oracle: Oracle, size: int, device: torch.device, split: str) -> float:
    """Seconds per run to measure runs in `size` slots on a split once, batch-normalization statistics included."""
    points = start(oracle.problem, device, size)
    return seconds(lambda: oracle.measure(points, split), device) / size


def start(problem: Problem, device: torch.device, size: int) -> Tensor:
    """Initial weights ``[size, P]``, the same in every slot."""
    return problem.init(0).to(device, torch.float32).expand(size, -1).contiguous()


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """The shortest duration of some work, without the first time unless that is long."""
    times: list[float] = []
    while not times or (times[0] < LONG and len(times) < 4 and sum(times[1:]) < ENOUGH):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)
