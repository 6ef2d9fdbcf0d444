"""The noise of a rule's steps by its definition: SplitMix64 in numpy's unsigned integers, and scipy's normal."""

from __future__ import annotations

import functools

import numpy as np
from scipy import stats

GAMMA = 0x9E3779B97F4A7C15
NOISE = 3
"""The stream of a rule's noise."""


def mix(word: np.ndarray) -> np.ndarray:
    """SplitMix64's finalizer, as published: shifts 30, 27, 31."""
    with np.errstate(over="ignore"):
        word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


def sequence(state: int, count: int) -> np.ndarray:
    """The first outputs of a SplitMix64 generator with this state."""
    return mix(np.array([(state + GAMMA * (i + 1)) % 2**64 for i in range(count)], dtype=np.uint64))


def start(seed: int, step: int, stream: int = NOISE) -> int:
    """The state at which the generator of one step is started."""
    first = int(mix(np.array([(seed + stream * GAMMA) % 2**64], dtype=np.uint64))[0])
    return int(mix(np.array([(first + step * GAMMA) % 2**64], dtype=np.uint64))[0])


@functools.cache
def values() -> np.ndarray:
    """Means of a standard normal number in 65,536 equally probable intervals, scaled to variance 1."""
    edges = stats.norm.ppf(np.arange(2**16 + 1) / 2**16)
    means = -np.diff(stats.norm.pdf(edges)) * 2**16
    return means / np.sqrt((means**2).mean())


def pieces(seed: int, step: int, size: int, stream: int = NOISE) -> np.ndarray:
    """The 16-bit numbers of the coordinates, four per word, the lowest bits first."""
    words = sequence(start(seed, step, stream), (size + 3) // 4)
    shifts = np.arange(4, dtype=np.uint64) * np.uint64(16)
    return ((words[:, None] >> shifts) & np.uint64(0xFFFF)).ravel()[:size].astype(int)


def noise(seed: int, step: int, size: int) -> np.ndarray:
    """The noise of one step, ``[size]``."""
    return values()[pieces(seed, step, size)]
