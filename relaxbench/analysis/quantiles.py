"""Exact, distribution-free intervals of quantiles, between two order statistics of a sample."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from relaxbench.analysis.log_scale import Array as Vector
from relaxbench.analysis.simultaneous import LEVEL


def ranks(total: int, share: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ranks (from 1) of two order statistics that enclose a quantile in at least 95 % of samples.

    The number of values below the quantile is binomial for every distribution; ties only widen the interval. An end
    for which the sample is too small has rank 0 or total + 1.

    Args:
        total: size of the sample.
        share: the quantile, in (0, 1); a number or an array.
    """
    counts, tails = np.arange(total + 1), (LEVEL / 2, 1 - LEVEL / 2)
    # The smallest counts whose cumulative probability reaches the tails: what scipy.stats.binom.ppf gives, without the
    # import of scipy.stats, which takes longer than the figures of a page.
    ends = [np.searchsorted(special.bdtr(counts, total, p), tails) for p in np.atleast_1d(share)]
    low, high = np.array(ends, dtype=np.int64).T
    return low, high + 1


def quantile_interval(values: Vector, share: ArrayLike) -> tuple[Vector, Vector]:
    """Return the values at the two `ranks`; NaN where an end does not exist.

    Args:
        values: the sample ``[n]``, in any order; may be infinite.
        share: the quantile, in (0, 1); a number or an array.
    """
    low, high = ranks(len(values), share)
    padded = np.concatenate([[np.nan], np.sort(values), [np.nan]])
    return padded[low], padded[high]
