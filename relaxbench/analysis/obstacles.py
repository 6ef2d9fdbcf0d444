"""Why a comparison makes no claim, in words, and what would change that."""

from __future__ import annotations

import math

from relaxbench.analysis.comparison import Comparison
from relaxbench.analysis.simultaneous import MIN_BLOCKS, Obstacle
from relaxbench.util.text import counted

EVERY_DIVERGED = "every confirming run diverged"
"""A reason, of the method that is named before it."""


NONE_REACHED = "no run of either reached the tolerance"
"""A reason, of a method and its opponent."""


def reason(comparison: Comparison, obstacle: Obstacle, lowest: float) -> str:
    """Return why no claim is possible, in a few words; empty where one is.

    Args:
        comparison: with the numbers of blocks, titles and the metric.
        obstacle: of its judgement.
        lowest: the smallest metric of its runs.
    """
    if obstacle == "blocks":
        blocks = min(comparison.blocks, comparison.reference_blocks)
        return f"{counted(blocks, 'block')}, at least {MIN_BLOCKS} are needed"
    if obstacle == "logarithm":
        if lowest <= 0:
            value = f"{lowest:.3g}".replace("-", "−")
            return f"{comparison.metric} of {value} is not above 0, so methods have no ratio"
        return f"the {comparison.metric} of a run is not finite"
    reasons: dict[Obstacle, str] = {
        "": "",
        "diverged": EVERY_DIVERGED,
        "reference diverged": f"every confirming run of {comparison.reference_title} diverged",
        "missed": NONE_REACHED,
        "hidden": "runs of both missed the tolerance, and are equal only because both stopped at the budget",
    }
    return reasons[obstacle]


def advice(problem: str, obstacle: Obstacle, lowest: float) -> str:
    """Return what would make a claim possible, as a sentence; empty where nothing is known to.

    Args:
        problem: its name.
        obstacle: of a judgement.
        lowest: the smallest metric of its runs.
    """
    if obstacle == "logarithm" and math.isfinite(lowest) and lowest <= 0:
        return f"Give {problem} a metric that is always above 0, such as an error rate or a loss plus a constant."
    longer = f"A larger budget for {problem} may show a difference; more blocks would not."
    ranges = f"Ranges with smaller step sizes on {problem} may help; more blocks would not."
    hints: dict[Obstacle, str] = {"missed": longer, "hidden": longer, "diverged": ranges, "reference diverged": ranges}
    return hints.get(obstacle, "")
