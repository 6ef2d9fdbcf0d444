"""Whether winners crowd the edge of a range: then the range may end before the best values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeGuard

from scipy import special

from relaxbench.space import Choice, Float, Int, Space, Value

EDGE = 0.1
"""The edge of a real range: this share of it at each end, on its scale. Of an integer range it is the end itself."""

LEVEL = 0.05
"""Largest probability that any edge of a space is reported although the winners lie anywhere with equal chances."""


@dataclass(frozen=True)
class CrowdedEdge:
    """More winners at one end of a range than chance explains.

    Attributes:
        name: of the hyperparameter.
        side: the end.
        count: winners at this end.
        winners: all of them.
        expected: winners that chance puts there.
        probability: that chance puts at least `count` there, for this one edge.
        low, high: the range.
    """

    name: str
    side: Literal["lowest", "highest"]
    count: int
    winners: int
    expected: float
    probability: float
    low: float
    high: float

    @property
    def sentence(self) -> str:
        """The finding as one sentence, without the name of the method."""
        return (
            f"{self.count} of {self.winners} winners have {self.name} at the {self.side} end of its range "
            f"{self.low:g} to {self.high:g} ({self.expected:.2g} by chance): the range may end too early."
        )


def crowded_edges(winners: Sequence[Mapping[str, Value]], space: Space) -> list[CrowdedEdge]:
    """Find the ends of ranges at which winners crowd.

    Chance is a winner that lies anywhere in a range with equal probability on its scale, as trials of random search do.
    The count at an end is then binomial; an end is reported if its tail is at most `LEVEL` over the number of ends.

    Args:
        winners: the params of independent winners, one per block. Values that are no numbers are left out.
        space: what the method searched.

    Returns:
        the crowded ends, in the order of the space, the lowest first.
    """
    ranges = {name: declared for name, declared in space.items() if not isinstance(declared, Choice)}
    found = []
    for name, declared in ranges.items():
        values = [value for value in (winner.get(name) for winner in winners) if _is_number(value)]
        places = [_place(value, declared) for value in values]
        chance = EDGE if isinstance(declared, Float) else 1 / ((declared.high - declared.low) // declared.step + 1)
        width = EDGE if isinstance(declared, Float) else 0.0
        counts: dict[Literal["lowest", "highest"], int] = {
            "lowest": sum(place <= width for place in places),
            "highest": sum(place >= 1 - width for place in places),
        }
        for side, count in counts.items():
            probability = binomial_tail(count, len(places), chance)
            if probability <= LEVEL / (2 * len(ranges)):
                expected = chance * len(places)
                low, high = float(declared.low), float(declared.high)
                found.append(CrowdedEdge(name, side, count, len(places), expected, probability, low, high))
    return found


def binomial_tail(count: int, trials: int, chance: float) -> float:
    """Return the probability of at least `count` successes in `trials` independent trials of a chance."""
    if count <= 0:
        return 1.0
    return float(special.bdtrc(count - 1, trials, chance)) if count <= trials else 0.0


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _place(value: float, declared: Float | Int) -> float:
    """The place of a value in its range, 0 at the low end and 1 at the high end, on the range's scale."""
    low, high = float(declared.low), float(declared.high)
    if isinstance(declared, Float) and declared.log:
        if value <= 0:
            return 0.0
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low) if high > low else 0.5
