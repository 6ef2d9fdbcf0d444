"""Rare disasters: runs far worse than the baseline, which no interval of a mean shows.

A disaster is a confirmation run above 3 times the median of the baseline's. None among ten still allows a rate of
26 %, so the count is shown with the one-sided Clopper–Pearson bound (1934): the largest rate p with P(Binomial(n,
p) ≤ count) ≥ α.

The runs are those of the best third of all settings, one each. Their rate is an average over these settings; that
of the winner alone may differ, and it rests on fewer runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from relaxbench.analysis.log_scale import Array
from relaxbench.analysis.simultaneous import LEVEL
from relaxbench.analysis.winsorized import FACTOR
from relaxbench.util.text import percent


@dataclass(frozen=True)
class Disasters:
    """How often a method fails badly.

    Attributes:
        count: runs above the limit.
        runs: runs in all.
        share: count / runs; NaN without runs.
        bound: one-sided 95 % upper bound of the rate; 1 without runs.
        limit: in the unit of the metric.
    """

    count: int
    runs: int
    share: float
    bound: float
    limit: float

    @property
    def at_most(self) -> str:
        """The bound in words."""
        return f"with 95 % confidence, at most {percent(self.bound)} of all its runs are"


def disaster_limit(reference: ArrayLike, smallest: float = 0.0) -> float:
    """The metric above which a run is a disaster, FACTOR × the median of the baseline's runs; NaN without runs.

    A censored metric ends at the budget, and misses are counted by themselves.

    Args:
        reference: test metric of the baseline's confirmation runs.
        smallest: a median below it counts as it (half a test example).
    """
    runs = _known(reference)
    return FACTOR * max(float(np.median(runs)), smallest) if len(runs) else float("nan")


def disasters(metrics: ArrayLike, limit: float, level: float = LEVEL) -> Disasters:
    """Count the disasters among a method's confirmation runs.

    Args:
        metrics: test metric of the runs, ``[n]``; NaN is no run.
        limit: see `disaster_limit`.
        level: α of the bound.
    """
    runs = _known(metrics)
    count, total = int((runs > limit).sum()), len(runs)
    return Disasters(count, total, count / total if total else float("nan"), rate_bound(count, total, level), limit)


def rate_bound(count: int, runs: int, level: float = LEVEL) -> float:
    """Clopper–Pearson's one-sided upper bound of a rate, at 1 − level; 1 without runs.

    Raises:
        ValueError: count is not within 0 … runs.
    """
    if not 0 <= count <= runs:
        raise ValueError(f"{count} of {runs} runs is not a count")
    return 1.0 if count == runs else float(special.betainccinv(count + 1, runs - count, level))


def _known(metrics: ArrayLike) -> Array:
    values = np.asarray(metrics, dtype=float).ravel()
    return np.asarray(values[~np.isnan(values)])
