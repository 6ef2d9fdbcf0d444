"""Secondary comparisons: made only of methods that are better than the baseline.

"Against the best control", "at equal seconds" and "at another budget" are questions about a method that has won. Each
is tested only if its primary comparison says "better" (gatekeeping: Westfall and Krishen 2001), so a method that is not
truly better reaches them by a false verdict that α counts already.

Each of m secondary comparisons is tested once, at the look that decided the primary one, and has α/(k max(J, m)). With
m ≤ J that is the level of the primary comparisons: testing once leaves the share of the other looks. Tested again at
later looks, three comparisons of six methods would go wrong in 12 % of studies (tests/analysis/test_gatekeeping.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from relaxbench.analysis.arm import Arm
from relaxbench.analysis.arms import claimable
from relaxbench.analysis.equivalence import Margin
from relaxbench.analysis.simultaneous import Family, Judgement, judge
from relaxbench.analysis.welch import welch_difference


def secondary(
    primary: Judgement,
    pairs: Mapping[str, tuple[Arm, Arm]],
    family: Family,
    margins: Mapping[str, Margin | None] | None = None,
) -> dict[str, Judgement]:
    """Judge the secondary comparisons of one method.

    Args:
        primary: the method against the baseline.
        pairs: candidate and reference by the name of the comparison, as they were at the look that decided the primary
            one. All that are planned, whether or not they can be judged: their number is part of the level.
        family: of the primary comparisons.
        margins: by name; a comparison without one is never equivalent.

    Returns:
        name → its judgement, ``not tested`` with the difference alone where the gate is closed.
    """
    if primary.verdict != "better":
        return {name: _estimate(*arms) for name, arms in pairs.items()}
    shared = replace(family, looks=max(family.looks, len(pairs)))
    return {name: claimable(judge(*arms, shared, (margins or {}).get(name)), *arms) for name, arms in pairs.items()}


def _estimate(candidate: Arm, reference: Arm) -> Judgement:
    difference = float(welch_difference(candidate, reference).difference)
    return Judgement("not tested", difference, blocks=candidate.blocks, reference_blocks=reference.blocks)
