"""Two methods compared: the difference of their estimates, its standard error and its degrees of freedom.

Arms are independent: trials and seeds of one say nothing about the other. (Pairing blocks by seed was measured:
correlations of −0.59 to +0.16, so a paired test only halves the degrees of freedom.)

    D = θ̂_c − θ̂_r,    se = √(V_c + V_r),    ν = (V_c + V_r)² / (V_c² / (R_c − 1) + V_r² / (R_r − 1))

Welch (1947), with Satterthwaite's (1946) ν.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relaxbench.analysis.arm import Arm
from relaxbench.analysis.log_scale import Array


@dataclass(frozen=True)
class WelchDifference:
    """Candidate − reference on the logarithmic scale; arrays ``[...]`` of the same shape, usually 0-dimensional.

    Attributes:
        difference: D; e^D is the ratio.
        error: se, its standard error.
        freedom: ν. Where neither arm varies it is R_c + R_r − 2, and the error is 0.
    """

    difference: Array
    error: Array
    freedom: Array


def welch_difference(candidate: Arm, reference: Arm) -> WelchDifference:
    """Compare two independent arms."""
    ours, theirs = candidate.variance, reference.variance
    total = ours + theirs
    with np.errstate(invalid="ignore", divide="ignore"):
        share = ours / total  # of the squares: products of small variances would vanish
        freedom = 1 / (share**2 / max(candidate.blocks - 1, 1) + (1 - share) ** 2 / max(reference.blocks - 1, 1))
    freedom = np.where(total > 0, freedom, np.where(total == 0, candidate.blocks + reference.blocks - 2, np.nan))
    difference = np.asarray(candidate.estimate - reference.estimate)
    return WelchDifference(difference, np.asarray(np.sqrt(total)), np.asarray(freedom))
