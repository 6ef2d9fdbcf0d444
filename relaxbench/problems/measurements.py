"""How often a run is measured, and on how many examples: what a share of its budget pays for.

Counted are forward passes over examples, a third of a gradient's cost each: those of the validation split and of batch
normalization's statistics at every round, and of the test split at the end. Flatness is not among them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from relaxbench.util.text import percent

SHARE = 0.25
"""Largest share of the budget for measurements, unless the number of rounds is stated or `FEWEST` cost more."""
FORWARD = 1 / 3
"""Cost of a forward pass in gradients: a backward pass costs as many matrix products as two forward passes."""
FEWEST, ENOUGH = 3, 10
"""Rounds that are always made, and those for which batch normalization is measured on fewer examples."""
LEAST = 256
"""Examples on which batch normalization is measured at least."""


@dataclass(frozen=True)
class Sizes:
    """Numbers of examples: in the splits, for batch normalization (at most), and per gradient."""

    validation: int
    test: int
    statistics: int
    batch: int


@dataclass(frozen=True)
class Measurements:
    """The measurements of a run.

    Attributes:
        rounds: number of measurements on the validation split.
        statistics: examples on which batch normalization is measured before each.
        share: their cost, relative to the budget, in a run that is tested.
    """

    rounds: int
    statistics: int
    share: float


def affordable(budget: int, sizes: Sizes, most: int, stated: int | None = None) -> Measurements:
    """Choose rounds and examples for batch normalization: as many as `SHARE` of the budget pays for.

    Args:
        budget: gradient equivalents of a run.
        sizes: numbers of examples.
        most: rounds at most.
        stated: rounds that are made in any case, instead.
    """
    examples = SHARE * budget * sizes.batch / FORWARD - sizes.test  # that may be passed forward before the test
    few = min(ENOUGH, most) if stated is None else stated
    room = math.floor((examples - few * sizes.validation) / (few + 1))  # for statistics, also those before the test
    statistics = min(sizes.statistics, max(LEAST, room))
    rounds = stated
    if rounds is None:
        fit = math.floor((examples - statistics) / (sizes.validation + statistics))
        rounds = min(most, max(FEWEST, fit))
    return Measurements(rounds, statistics, _share(budget, sizes, rounds, statistics))


def unadapted(budget: int, sizes: Sizes, rounds: int) -> Measurements:
    """Describe measurements that do not depend on the budget, as in studies of earlier versions."""
    return Measurements(rounds, sizes.statistics, _share(budget, sizes, rounds, sizes.statistics))


def say_expensive(name: str, planned: Measurements) -> str:
    """Say in a line that measurements cost more than they should; "" if they do not."""
    if planned.share <= SHARE:
        return ""
    return (
        f"{name}: measurements in {planned.rounds} rounds cost {percent(planned.share)} of a tested run's training, "
        f"more than {percent(SHARE)}: a larger budget, or smaller validation and test splits, lower that."
    )


def _share(budget: int, sizes: Sizes, rounds: int, statistics: int) -> float:
    passed = rounds * (sizes.validation + statistics) + sizes.test + statistics
    return FORWARD * passed / sizes.batch / budget
