"""One method's side of a comparison: an estimate and its variance over blocks.

Two ways lead here: `jackknife.best_of_random` for independent random trials, and `disjoint_blocks` for everything else.
All that follows (`welch`, `simultaneous`, `looks`) is the same for both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from relaxbench.analysis.log_scale import Array
from relaxbench.analysis.winsorized import winsorized


@dataclass(frozen=True)
class Arm:
    """An estimate with its variance; arrays ``[...]`` of the same shape, one element per study, usually 0-dimensional.

    Attributes:
        estimate: θ̂, on the logarithmic scale.
        variance: V, the estimated variance of θ̂ (not of a block). NaN if no variance can be estimated.
        blocks: R, the independent blocks behind it; the variance has R − 1 degrees of freedom.
        runs: the runs on fresh seeds behind it; 0 where they are not counted.
        diverged: how many of them diverged.
        missed: how many of them did not reach the tolerance of a censored metric.
    """

    estimate: Array
    variance: Array
    blocks: int
    runs: int = 0
    diverged: int = 0
    missed: int = 0


def disjoint_blocks(logs: ArrayLike, *, in_full: bool = True) -> Arm:
    """The mean over blocks that are used whole, V = var(ℓ) / R, or of pseudo-values where disasters are limited.

    For trials that depend on each other within their block: a sampler that learns (TPE, Gaussian processes, CMA-ES)
    or a pruner. One block gives one number, ℓ of its winner on a fresh seed. Also for a setting that is run as
    published, without tuning: then a block is one run.

    Args:
        logs: ℓ of the winner of every block, ``[..., R]``; NaN where there is no run yet makes the estimate NaN.
        in_full: every run counts in full; otherwise a disaster counts little, see `winsorized`.

    Raises:
        ValueError: without any block.
    """
    values = np.asarray(logs, dtype=float)
    if values.ndim < 1 or values.shape[-1] < 1:
        raise ValueError("an estimate needs at least one block")
    blocks = values.shape[-1]
    if in_full or blocks == 1:
        return arm_of_parts(_mean(values), values)
    estimate = _mean(winsorized(values))
    without = [_mean(winsorized(np.delete(values, block, axis=-1))) for block in range(blocks)]
    return arm_of_parts(estimate, np.stack([blocks * estimate - (blocks - 1) * mean for mean in without], axis=-1))


def arm_of_parts(estimate: Array, parts: Array) -> Arm:
    """An arm whose variance is that of the mean of R independent parts, ``[..., R]``: blocks or pseudo-values."""
    blocks = parts.shape[-1]
    spread = parts - parts[..., :1]  # exactly 0 where all are equal
    variance = spread.var(axis=-1, ddof=1) / blocks if blocks > 1 else np.full_like(estimate, np.nan)
    return Arm(estimate, np.asarray(variance), blocks)


def _mean(values: Array) -> Array:
    """The mean over the last axis, exact where all values are equal."""
    first = values[..., :1]
    return np.asarray(first[..., 0] + (values - first).mean(axis=-1))
