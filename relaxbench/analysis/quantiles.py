"""Exact, distribution-free intervals of quantiles: between two order statistics of a sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from relaxbench.analysis.paired import LEVEL, Vector


def ranks(total: int, share: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The ranks (from 1) of the two order statistics that hold a quantile between them, in at least 95 % of samples.

    How many of `total` values lie below the quantile is binomial, whatever the distribution; ties only widen the
    interval. A side that the sample is too small for has rank 0 or total + 1.

    Args:
        total: size of the sample.
        share: which quantile, in (0, 1); a number or an array.
    """
    low, high = stats.binom.ppf([[LEVEL / 2], [1 - LEVEL / 2]], total, np.atleast_1d(share))
    return low.astype(np.int64), high.astype(np.int64) + 1


def quantile_interval(values: Vector, share: Any) -> tuple[Vector, Vector]:
    """The values at those ranks; NaN where a side does not exist. ``values`` [n], in any order, may be infinite."""
    low, high = ranks(len(values), share)
    padded = np.concatenate([[np.nan], np.sort(values), [np.nan]])
    return padded[low], padded[high]
