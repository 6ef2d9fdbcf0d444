"""The scale of a comparison: logarithms of a metric, so that a difference is a ratio.

A comparison estimates, for a method with a tuning budget of T trials, the geometric mean of the test metric of "the
best of T trials by validation loss, run on a fresh seed". On logarithms this is a mean, and two methods differ by
the logarithm of a ratio. Test errors are positive, skewed, and differ in shape between methods: a t interval of ten
blocks covers 66 to 88 % of the time on the errors themselves and 93 to 95 % on their logarithms
(docs/statistics.md).

==================== =========================================== ========================================
metric               ℓ                                           `log_metric` with
==================== =========================================== ========================================
error rate           log max(error, half a test example)         ``smallest=half_example(examples, scale)``
loss                 log loss                                    no limits
gradients to         log min(gradients, budget): a miss counts   ``largest=budget``
a tolerance          as the whole budget
==================== =========================================== ========================================

A diverged run has the problem's worst metric before it comes here.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def half_example(examples: int, scale: float = 1.0) -> float:
    """The error rate of half a test example: what a run without any error counts as.

    Args:
        examples: size of the test split, at least 1.
        scale: factor from a share to the unit of the metric; 100 for %.

    Raises:
        ValueError: without examples.
    """
    if examples < 1:
        raise ValueError(f"an error rate needs at least one test example, got {examples}")
    return 0.5 * scale / examples


def log_metric(values: ArrayLike, smallest: float = 0.0, largest: float = math.inf) -> Array:
    """Natural logarithm of a metric of which lower is better, any shape. NaN (no run yet) stays NaN.

    Args:
        values: the metric, in any unit; the same for all methods that are compared.
        smallest: values below it count as it.
        largest: values above it count as it.

    Raises:
        ValueError: a value is infinite, or has no logarithm.
    """
    limited = np.clip(np.asarray(values, dtype=float), smallest, largest)
    if np.isinf(limited).any():
        raise ValueError("results must be finite: a diverged run has the problem's worst metric")
    if (limited <= 0).any():
        raise ValueError(f"a metric of {limited[limited <= 0].min():g} has no logarithm, so methods have no ratio")
    return np.asarray(np.log(limited), dtype=float)


def smallest_positive(values: ArrayLike) -> float:
    """Return what a 0 counts as among losses whose logarithms are averaged: the smallest value above 0.

    Args:
        values: losses, any shape; those that are not finite do not count.

    Returns:
        NaN where logarithms do not fit: a value is negative, or none is above 0.
    """
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    positive = known[known > 0]
    return float(positive.min()) if len(positive) and (known >= 0).all() else math.nan


def points(difference: ArrayLike, reference: ArrayLike) -> Array:
    """A difference of logarithms D as a difference of the metric, g (e^D − 1), in the unit of g.

    Args: difference: D, or one end of its interval. reference: g, the geometric mean of the method compared with.
        It is taken as known: an end of D's interval becomes the difference "at g", not an interval that covers the
        difference of two unknown means (see tests/analysis/test_simultaneous.py).
    """
    return np.asarray(np.asarray(reference, dtype=float) * np.expm1(np.asarray(difference, dtype=float)))
