"""The repeated simultaneous interval of a ratio, and the verdict, which is where it lies.

A family of k comparisons (methods × problems × budgets) is looked at J times, all fixed before the study begins. At
every look

    D ± t_{ν, 1 − α/(2kJ)} se,

so that all intervals at all looks cover together with probability 1 − α (Bonferroni; repeated intervals: Jennison
and Turnbull 1989). Below 0 is *better*, above 0 *worse*. A method is *equivalent* where D ± t_{ν, 1 − α/(kJ)} se lies
within the margin's band (two one-sided tests: Schuirmann 1987), else the comparison is *undecided*. Whatever the truth,
a verdict is wrong with probability α/(kJ) at most, per comparison and look: two tails for "better" and "worse" where
D = 0, or one tail for "equivalent" where D lies outside the band.

One interval is shown. For "equivalent" it is cut off at the band, which both ends have been tested against; every
other verdict shows it whole. So a verdict can be read off its interval: within the band, or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from relaxbench.analysis.arm import Arm
from relaxbench.analysis.equivalence import Margin, band
from relaxbench.analysis.log_scale import Array
from relaxbench.analysis.welch import WelchDifference, welch_difference

LEVEL = 0.05
"""α: the chance of any wrong verdict in a study, over all comparisons and looks."""

MIN_BLOCKS = 6
"""Fewer blocks of either arm make no claim."""

DECIDED = ("better", "worse", "equivalent")
"""The verdicts that end a comparison."""

Obstacle = Literal["", "blocks", "logarithm", "diverged", "reference diverged", "missed", "hidden"]
"""Why a comparison makes no claim: too few blocks; a metric that has no logarithm; every run of the method, or of the
reference, diverged; every run of both missed the tolerance; or both seem equal because runs of both missed it."""


@dataclass(frozen=True)
class Family:
    """The comparisons that share the level.

    Attributes:
        comparisons: k, at least 1.
        looks: J, at least 1.
        level: α.

    Raises:
        ValueError: a number is out of range.
    """

    comparisons: int
    looks: int
    level: float = LEVEL

    def __post_init__(self) -> None:
        if self.comparisons < 1 or self.looks < 1 or not 0 < self.level < 1:
            raise ValueError(f"not a family: {self}")

    @property
    def share(self) -> float:
        """α/(kJ), what one comparison has at one look."""
        return self.level / (self.comparisons * self.looks)


@dataclass(frozen=True)
class Judgement:
    """One comparison at one look, on the logarithmic scale. Numbers that do not exist are NaN.

    Attributes: verdict: ``better``, ``worse``, ``equivalent``, ``undecided``; ``no claim`` (too few blocks, or
        nothing to compare) or ``not tested`` (a secondary comparison whose gate is closed) without an interval.
        difference: D. low, high: the interval shown. error: se. freedom: ν. band_low, band_high: of equivalence.
        blocks: of the candidate. reference_blocks: of the reference. obstacle: why there is no claim.
    """

    verdict: str
    difference: float
    low: float = np.nan
    high: float = np.nan
    error: float = np.nan
    freedom: float = np.nan
    band_low: float = np.nan
    band_high: float = np.nan
    blocks: int = 0
    reference_blocks: int = 0
    obstacle: Obstacle = ""

    @property
    def decided(self) -> bool:
        """Whether the verdict is better, worse or equivalent."""
        return self.verdict in DECIDED

    @property
    def over(self) -> bool:
        """Whether no further look is taken: it is decided, or there is something that more blocks do not remove."""
        return self.decided or self.obstacle not in ("", "blocks")


def interval(contrast: WelchDifference, tail: float) -> tuple[Array, Array]:
    """D ± t_{ν, 1 − tail} se, ``[...]`` each. Where neither arm varies it is the point D."""
    half = -special.stdtrit(contrast.freedom, tail) * contrast.error
    return np.asarray(contrast.difference - half), np.asarray(contrast.difference + half)


def judge(candidate: Arm, reference: Arm, family: Family, margin: Margin | None = None) -> Judgement:
    """Compare a method with a reference at one look.

    Args:
        candidate: the method, 0-dimensional.
        reference: what it is compared with, 0-dimensional.
        family: the comparisons and looks that share the level.
        margin: None: nothing is equivalent.
    """
    contrast = welch_difference(candidate, reference)
    difference = float(contrast.difference)
    few = min(candidate.blocks, reference.blocks) < MIN_BLOCKS
    if few or not np.isfinite(contrast.error):
        obstacle: Obstacle = "blocks" if few else "logarithm"
        both = {"blocks": candidate.blocks, "reference_blocks": reference.blocks}
        return Judgement("no claim", difference, **both, obstacle=obstacle)
    low, high = (float(end) for end in interval(contrast, family.share / 2))
    band_low = band_high = np.nan
    verdict = "better" if high < 0 else "worse" if low > 0 else "undecided"
    if margin is not None:
        band_low, band_high = (float(end) for end in band(margin, reference, family.share))
        inner_low, inner_high = (float(end) for end in interval(contrast, family.share))
        if verdict == "undecided" and band_low < inner_low and inner_high < band_high:
            verdict, low, high = "equivalent", max(low, band_low), min(high, band_high)
    return Judgement(
        verdict,
        difference,
        low,
        high,
        float(contrast.error),
        float(contrast.freedom),
        band_low,
        band_high,
        candidate.blocks,
        reference.blocks,
    )
