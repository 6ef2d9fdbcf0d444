"""A difference in error rate beyond the test set: both the blocks and the test examples are samples.

An interval over blocks alone holds for these test examples. This one holds for new tunings on new examples from the
same source. tests/analysis/test_two_way.py checks it against an analysis of variance and by simulation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from relaxbench.analysis.paired import LEVEL


@dataclass(frozen=True)
class TwoWay:
    """A difference in error rate (ours − theirs, in [−1, 1]) over R paired blocks and M shared test examples.

    Attributes:
        difference: its mean over blocks and examples.
        standard_error: of that mean under new blocks and new examples.
        low, high: 95 % interval, from t with R − 1 degrees of freedom.
    """

    difference: float
    standard_error: float
    low: float
    high: float


def two_way(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> TwoWay:
    """Compare the right and wrong answers of two methods.

    Args:
        ours, theirs: ``[R, M]``, whether the run of block r classified test example m correctly.

    Raises:
        ValueError: shapes differ, or fewer than two blocks or examples.
    """
    if ours.shape != theirs.shape or ours.ndim != 2 or min(ours.shape) < 2:
        raise ValueError(f"expected two equal shapes [R ≥ 2, M ≥ 2], got {ours.shape} and {theirs.shape}")
    blocks, examples = ours.shape
    apart = theirs.astype(np.int8) - ours.astype(np.int8)  # 1 where only ours is wrong
    mean = float(apart.mean())
    of_blocks, of_examples, of_all = (
        float(np.var(part)) for part in (apart.mean(axis=1), apart.mean(axis=0), apart)
    )  # variances of row means, of column means, of all entries
    rest = max(of_all - of_blocks - of_examples, 0.0) / ((blocks - 1) * (examples - 1))
    by_blocks, by_examples = of_blocks / (blocks - 1), of_examples / (examples - 1)
    # Each mean square contains the interaction once. By chance, their difference can fall below one of them.
    variance = max(by_blocks + by_examples - rest, by_blocks, by_examples)
    error = float(np.sqrt(variance))
    half = float(stats.t.ppf(1 - LEVEL / 2, blocks - 1)) * error
    return TwoWay(mean, error, mean - half, mean + half)
