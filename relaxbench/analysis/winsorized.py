"""How much a single run may count: disasters are counted by themselves, and weigh little in the mean.

A few runs of a good method end many times as high as the others. The study that happens to have few of them puts the
method's level too low and its error too small at once, so a t interval errs on one side: with the shapes that were
measured on digits, methods of equal means were called different in 14 % of studies instead of 5 %
(docs/statistics.md). So a run counts as at most `disasters.FACTOR` times its method's median, or three deviations
above it where that is more (Winsor's mean, one-sided). The rate of disasters stands beside every verdict.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from relaxbench.analysis.disasters import FACTOR
from relaxbench.analysis.log_scale import Array

DEVIATIONS = 3.0
"""Standard deviations above the median that always count: a method whose runs spread widely has no disasters."""
CONSISTENT = 1.4826
"""From the median absolute deviation of normal numbers to their standard deviation."""


def winsorized(logs: ArrayLike) -> Array:
    """Limit each ℓ of a method to log `FACTOR`, or `DEVIATIONS` deviations, above the median of them all.

    Args:
        logs: ℓ of the runs on fresh seeds of one method, any shape. NaN where there is no run stays NaN.
    """
    values = np.asarray(logs, dtype=float)
    known = values[~np.isnan(values)]
    if not len(known):
        return values.copy()
    middle = np.median(known)
    deviation = CONSISTENT * np.median(np.abs(known - middle))
    return np.asarray(np.minimum(values, middle + max(math.log(FACTOR), DEVIATIONS * deviation)))
