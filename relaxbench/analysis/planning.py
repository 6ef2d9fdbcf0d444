"""How many blocks a comparison is expected to take until a look decides it, before any of them is run.

A block's log metric is taken as normal with a known spread s, for which an arm has V = s²/R. The interval, the band
and the looks are those of the verdicts (`simultaneous`, `equivalence`); many studies are drawn, because the looks at
one study share their blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relaxbench.analysis.arm import disjoint_blocks
from relaxbench.analysis.equivalence import Margin, band
from relaxbench.analysis.log_scale import Array
from relaxbench.analysis.simultaneous import Family, interval
from relaxbench.analysis.welch import welch_difference

STUDIES = 2000
"""Studies drawn. The share that is decided then has a standard error of 1.1 % at most."""


@dataclass(frozen=True)
class Spreads:
    """What is known of the methods on a problem.

    Attributes:
        reference: standard deviation of the baseline's log metric between blocks.
        methods: of the others, one each.
        level: g, the baseline's metric in display units; None if it is not known, which a margin in points needs.
    """

    reference: float
    methods: tuple[float, ...]
    level: float | None = None


@dataclass(frozen=True)
class Expectation:
    """What to expect of a study in which every method has the same true ratio to the baseline.

    Attributes:
        ratio: the true one.
        decided: share of the comparisons that a look decides.
        blocks: expected blocks of every method, and of the baseline, which goes on while any other does.
        reference_blocks: of the baseline.
    """

    ratio: float
    decided: float
    blocks: tuple[float, ...]
    reference_blocks: float


def expect(ratio: float, spreads: Spreads, looks: Sequence[int], family: Family, margin: Margin | None) -> Expectation:
    """Expect the blocks until every comparison is decided, or all looks are taken.

    Args:
        ratio: of every method's metric to the baseline's.
        spreads: of the problem's methods.
        looks: rising numbers of blocks.
        family: the comparisons and looks that share the level.
        margin: of equivalence; one in points is left out where the level is not known.
    """
    if margin is not None and margin.kind == "points" and spreads.level is None:
        margin = None
    generator, last = np.random.default_rng(0), looks[-1]
    level = np.log(spreads.level or 1.0)
    reference = level + spreads.reference * generator.standard_normal((STUDIES, 1, last))
    own = np.array(spreads.methods)[:, None] * generator.standard_normal((STUDIES, len(spreads.methods), last))
    methods = level + np.log(ratio) + own
    ended = np.full(methods.shape[:-1], float(last))
    decided = np.zeros(methods.shape[:-1], dtype=bool)
    for blocks in looks:
        now = _decided(methods[..., :blocks], reference[..., :blocks], family, margin) & ~decided
        ended[now] = blocks
        decided |= now
    furthest = float(ended.max(axis=-1).mean())
    return Expectation(ratio, float(decided.mean()), tuple(map(float, ended.mean(axis=0))), furthest)


def _decided(methods: Array, reference: Array, family: Family, margin: Margin | None) -> NDArray[np.bool_]:
    """Whether a look decides: log metrics of blocks, ``[..., methods, R]`` and ``[..., 1, R]`` → ``[..., methods]``."""
    baseline = disjoint_blocks(reference)
    contrast = welch_difference(disjoint_blocks(methods), baseline)
    low, high = interval(contrast, family.share / 2)
    decided = (high < 0) | (low > 0)
    if margin is not None:
        band_low, band_high = band(margin, baseline, family.share)
        inner_low, inner_high = interval(contrast, family.share)
        decided |= (band_low < inner_low) & (inner_high < band_high)
    return np.asarray(decided)
