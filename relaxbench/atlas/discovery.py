"""How many claims of the atlas may be wrong: p-values that match the intervals, adjusted over all cells.

Within a study the family-wise error is controlled: its intervals hold at once, for k comparisons and J looks. Over the
atlas the false discovery rate is: of all cells that are called different, at most 5 % are expected to be wrong.

The p-value of a difference D with standard error se and ν degrees of freedom is J · 2 P(t_ν > |D|/se), at most 1. The
factor J makes it valid at whichever look the comparison stopped (Bonferroni over the looks), and makes it match the
interval: "better" or "worse" is p ≤ α/k. That of an equivalence is the larger of the two one-sided ones, against
either end of the study's band, times J. Differences and equivalences are two lists, adjusted by Benjamini and
Yekutieli (2001), which holds under any dependence: the cells of a row share the baseline's runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import special

from relaxbench.analysis.simultaneous import LEVEL
from relaxbench.atlas.cells import Cell


def difference_p(ratio: float, error: float, freedom: float, looks: int) -> float:
    """Return the p-value of a ratio other than 1, valid at any of the looks; NaN where a number is not known.

    Args:
        ratio: e^D. error, freedom: of D; without error, the ratio is exact.
        looks: J, those that the interval pays for.
    """
    if not (ratio > 0 and error >= 0):
        return math.nan
    difference = abs(math.log(ratio))
    if error == 0:
        return float(difference == 0)
    return min(1.0, looks * 2 * float(special.stdtr(freedom, -difference / error)))


def equivalence_p(ratio: float, error: float, freedom: float, band: tuple[float, float], looks: int) -> float:
    """Return the p-value of a ratio within a band, from two one-sided tests; NaN without a band.

    Args:
        ratio, error, freedom, looks: as for `difference_p`.
        band: the ratios that are equivalent.
    """
    if not (ratio > 0 and error >= 0 and 0 <= band[0] < band[1]):
        return math.nan
    above = math.log(ratio / band[0]) if band[0] else math.inf
    below = math.log(band[1] / ratio)
    nearest = min(above, below)
    if error == 0:
        return float(nearest <= 0)
    return min(1.0, looks * float(special.stdtr(freedom, -nearest / error)))


def adjusted(p: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for the false discovery rate under any dependence; NaN where p is NaN."""
    from scipy import stats  # slow to import

    values = np.array(p, dtype=float)
    known = ~np.isnan(values)
    if known.any():
        values[known] = stats.false_discovery_control(values[known], method="by")
    return [float(value) for value in values]


def discoveries(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells with their p-values, and with these adjusted over all of them."""
    tested = [_tested(cell) for cell in cells]
    pairs = zip(adjusted([cell.p for cell in tested]), adjusted([cell.p_equivalent for cell in tested]), strict=True)
    return [replace(cell, q=q, q_equivalent=other) for cell, (q, other) in zip(tested, pairs, strict=True)]


def holds(cell: Cell) -> bool:
    """Whether the claim of a cell also holds over the atlas: its adjusted p-value is at most 5 %."""
    if cell.verdict == "equivalent":
        return cell.q_equivalent <= LEVEL
    return cell.verdict in ("better", "worse") and cell.q <= LEVEL


def _tested(cell: Cell) -> Cell:
    if not cell.claimed:
        return cell
    looks = max(cell.looks, cell.look)  # a look beyond the declared ones is one more
    known = cell.ratio, cell.error, cell.freedom
    p = difference_p(*known, looks)
    return replace(cell, p=p, p_equivalent=equivalence_p(*known, (cell.band_low, cell.band_high), looks))
