"""The band of ratios that a margin calls equivalent.

A margin is stated as a ratio ("10 %", r = 0.1) or in the unit of the metric ("1 point", m). On the logarithmic
scale D is equivalent within

    ratio:   (log(1 − r), log(1 + r))
    points:  (log(1 − m/g⁺), log(1 + m/ĝ)),    ĝ = e^θ̂_r,    g⁺ = exp(θ̂_r + t_{R − 1, 1 − tail} √V_r).

Points need the reference's level g, which is an estimate too. With ĝ on both sides, an overestimated reference widens
the lower side of the band in step with D: where the true difference is −m, the interval then lies within the band in 2
to 20 % of comparisons, at a nominal 0.28 % (tests/analysis/test_equivalence.py). The lower side therefore has g⁺, the
upper end of g's interval at the same level. To first order in the errors that suffices, by the triangle inequality of
standard errors. On the upper side the error of ĝ cancels a part of the error of D, and ĝ is safe.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from relaxbench.analysis.arm import Arm
from relaxbench.analysis.log_scale import Array


@dataclass(frozen=True)
class Margin:
    """The largest difference that does not matter.

    Attributes:
        value: in the unit of the metric, or a share of the reference's (0.1 for 10 %).
        kind: which of the two.

    Raises:
        ValueError: not positive and finite, or a ratio of 1 and more: no positive metric is less than 0 times another.
    """

    value: float
    kind: Literal["points", "ratio"] = "points"

    def __post_init__(self) -> None:
        if not 0 < self.value < (1 if self.kind == "ratio" else np.inf):
            raise ValueError(
                f"a margin of {self.value:g} ({self.kind}) is not one: it must be positive, a ratio below 1"
            )

    def words(self, unit: str = "") -> str:
        """The margin as text: "10 %" of a ratio, "±0.5 points"."""
        return f"{100 * self.value:g} %" if self.kind == "ratio" else f"±{self.value:g} {unit}".rstrip()


def parse_margin(value: float | str | None) -> Margin | None:
    """The margin that a study file or a problem states: a number in the metric's unit, or text such as "10 %".

    Args:
        value: None and 0 state no margin.

    Raises:
        ValueError: another text, or a number that is no margin.
    """
    if value is None or value == 0:
        return None
    if not isinstance(value, str):
        return Margin(float(value))
    matched = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*%\s*", value)
    if matched is None:
        raise ValueError(f'a margin of {value!r} is not one: write a number, or a ratio such as "10 %"')
    return Margin(float(matched[1]) / 100, "ratio")


def band(margin: Margin, reference: Arm, tail: float) -> tuple[Array, Array]:
    """The two ends of the band on the logarithmic scale, ``[...]`` each.

    A margin in points of g⁺ or more has no lower end, −∞: no metric above 0 is so many points below the reference's.

    Args:
        margin: what counts as equivalent.
        reference: the method compared with; its metric is in the unit of the margin.
        tail: the level of the test against one end.
    """
    if margin.kind == "ratio":
        shape = np.shape(reference.estimate)
        return np.full(shape, np.log1p(-margin.value)), np.full(shape, np.log1p(margin.value))
    half = -special.stdtrit(max(reference.blocks - 1, 1), tail) * np.sqrt(reference.variance)
    share = margin.value * np.exp(-(reference.estimate + half))
    with np.errstate(invalid="ignore", divide="ignore"):
        low = np.where(share < 1, np.log1p(-np.minimum(share, 1)), -np.inf)
    return low, np.asarray(np.log1p(margin.value * np.exp(-reference.estimate)))
