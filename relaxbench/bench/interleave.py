"""Rates measured in turn: what disturbs the machine disturbs all alike, and ratios of neighbours in time count."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch


class Contender(Protocol):
    """Something that makes steps and can be stopped and gone on with."""

    def rate(self, seconds: float) -> float:
        """Steps a second, over the next stretch of at least so many seconds."""
        ...


def stretch(step: Callable[[], int], seconds: float, device: torch.device, lead: int = 1) -> float:
    """Steps a second.

    Args:
        step: makes some steps and says how many.
        seconds: how long, at least; a step that has begun is finished.
        device: what the steps may still be running on when `step` returns.
        lead: calls that are not timed, for caches and queues that others have left cold or full.
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
    """Wait for what a device was given to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleaved(contenders: Mapping[str, Contender], rounds: int, seconds: float) -> dict[str, list[float]]:
    """The rates of each contender, one a round. Every round begins with another one; every other runs backwards."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(rounds):
        first = turn % len(names)
        order = names[first:] + names[:first]
        for name in order if turn % 2 == 0 else order[::-1]:
            rates[name].append(contenders[name].rate(seconds))
    return rates


def median_ratio(ours: list[float], theirs: list[float], resamples: int = 1000) -> dict[str, float]:
    """``ratio``, the median of the ratios of each round, and its 95 % interval ``low``, ``high`` (bootstrap)."""
    ratios = np.array(ours) / np.array(theirs)
    draws = np.median(np.random.default_rng(0).choice(ratios, (resamples, len(ratios))), axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"ratio": float(np.median(ratios)), "low": float(low), "high": float(high)}
