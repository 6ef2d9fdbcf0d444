"""A difference in error rate beyond the test set: both the blocks and the test examples are samples.

An interval over blocks alone speaks of these test examples. This one speaks of new tunings on new examples from the
same source. Checked by resampling and by simulation in tests/analysis/test_two_way.py.
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
        blocks, examples: R and M.
        difference: its mean over both.
        standard_error: of that mean under new blocks and new examples.
        low, high: 95 % interval, ± t with R − 1 degrees of freedom.
        bootstrap_error: standard error of the pigeonhole bootstrap, which draws blocks and examples independently
            with replacement, after infinitely many draws. It counts three times what varies by block and example
            alone, so it is too large where that dominates.
    """

    blocks: int
    examples: int
    difference: float
    standard_error: float
    low: float
    high: float
    bootstrap_error: float


def two_way(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> TwoWay:
    """Compare two methods' answers, each ``[R, M]``: whether block r's run classified test example m correctly.

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
    # Either mean square holds the interaction once. A difference of mean squares can fall below one of them by chance.
    variance = max(by_blocks + by_examples - rest, by_blocks, by_examples)
    resampled = (
        (1 - 1 / examples) * of_blocks / blocks
        + (1 - 1 / blocks) * of_examples / examples
        + of_all / (blocks * examples)
    )
    half = float(stats.t.ppf(1 - LEVEL / 2, blocks - 1) * np.sqrt(variance))
    error, bootstrap = float(np.sqrt(variance)), float(np.sqrt(resampled))
    return TwoWay(blocks, examples, mean, error, mean - half, mean + half, bootstrap)
