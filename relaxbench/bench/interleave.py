"""Measure rates in turn: a disturbance of the machine affects all alike, and ratios compare neighbours in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch


class Contender(Protocol):
    """A training loop that can be paused and continued."""

    def rate(self, seconds: float) -> float:
        """Return steps per second over the next stretch, of at least this many seconds."""
        ...


def stretch(step: Callable[[], int], seconds: float, device: torch.device, lead: int = 1) -> float:
    """Time a stretch of steps and return steps per second.

    Args:
        step: makes some steps and returns their number.
        seconds: shortest duration; the last step is completed.
        device: where the steps may still be running when `step` returns.
        lead: untimed calls before, which warm caches and drain queues.
    """
    for _ in range(lead):
        step()
    synchronize(device)
    start, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - start < seconds:
        done += step()
    synchronize(device)
    return done / (time.perf_counter() - start)


def synchronize(device: torch.device) -> None:
    """Wait until a device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleaved(contenders: Mapping[str, Contender], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Return the rates of each contender, one per round. Rotate the order, and reverse it every other round."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(rounds):
        first = turn % len(names)
        order = names[first:] + names[:first]
        for name in order if turn % 2 == 0 else order[::-1]:
            rates[name].append(contenders[name].rate(seconds))
    return rates


def median_ratio(ours: list[float], theirs: list[float], resamples: int = 1000) -> dict[str, float]:
    """Return ``ratio``, the median of the ratios per round, and its 95 % interval ``low``, ``high`` (bootstrap)."""
    ratios = np.array(ours) / np.array(theirs)
    draws = np.median(np.random.default_rng(0).choice(ratios, (resamples, len(ratios))), axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"ratio": float(np.median(ratios)), "low": float(low), "high": float(high)}
