"""How much a single run may count: disasters are counted by themselves, and weigh little in the mean.

A few runs of a good method end many times as high as the others. The study that happens to have few of them puts the
method's level too low and its error too small at once, so a t interval errs on one side: with the shapes that were
measured on digits, methods of equal means were called different in 13 % of studies instead of 5 %
(docs/statistics.md). So no run counts above a limit (Winsor's mean, one-sided), and the rate of disasters stands beside
every verdict.

The limit moves smoothly with the share of runs that fail, and reaches them where they are one in four or more: frequent
failures count in full. It is estimated, so the jackknife estimates it anew without each block. (A limit that hangs on
medians alone jumps where nearly half of the runs fail, and calls a method different from itself.)
"""

from __future__ import annotations

import math
import warnings

import numpy as np
from numpy.typing import ArrayLike

from relaxbench.analysis.log_scale import Array

FACTOR = 3.0
"""A run at this many times a median is a disaster."""

DEVIATIONS = 4.0
"""Mean absolute deviations above the median that always count: three standard deviations of normal numbers. One in four
runs at a height h above the others gives a mean deviation of h/4, so that the limit reaches them."""


def winsorized(logs: ArrayLike) -> Array:
    """Limit each ℓ to log `FACTOR`, or `DEVIATIONS` mean deviations, above the median of its method's runs.

    Args:
        logs: ℓ of the runs on fresh seeds of a method, ``[..., runs]``; NaN where there is no run stays NaN.
    """
    values = np.asarray(logs, dtype=float)
    middle = _median(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a method without any run, which has NaN alone
        deviation = np.nanmean(np.abs(values - middle), axis=-1, keepdims=True)
    return np.asarray(np.minimum(values, middle + np.maximum(math.log(FACTOR), DEVIATIONS * deviation)))


def _median(values: Array) -> Array:
    """`np.nanmedian` over the last axis, which it keeps, in a fraction of its time for few runs."""
    ordered, known = np.sort(values, axis=-1), np.sum(~np.isnan(values), axis=-1, keepdims=True)  # NaN comes last
    low, high = (np.take_along_axis(ordered, at, axis=-1) for at in (np.maximum(known - 1, 0) // 2, known // 2))
    return np.where(known > 0, (low + high) / 2, np.nan)
