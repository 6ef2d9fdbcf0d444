"""From the trials of a study to its verdicts: the one way that both the plan of trials and the report take.

The plan asks which methods go on after a look, the report asks for the verdict; both call `arm_of` and `outcomes`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from relaxbench.analysis.all_subsets import best_of_subsets
from relaxbench.analysis.arm import Arm, disjoint_blocks
from relaxbench.analysis.equivalence import Margin
from relaxbench.analysis.jackknife import best_of_random
from relaxbench.analysis.log_scale import Array, half_example, log_metric
from relaxbench.analysis.looks import Outcome, fold
from relaxbench.analysis.simultaneous import Family, judge
from relaxbench.store.facts import ProblemFacts, SpecFacts, looks_of

Place = tuple[int, int]
"""The place of a trial in its method's plan: block and number."""


@dataclass(frozen=True)
class Limits:
    """The smallest and the largest value of a metric that count, in its display unit; see `log_scale`."""

    smallest: float = 0.0
    largest: float = math.inf

    @classmethod
    def of(cls, problem: ProblemFacts) -> Limits:
        """The limits of a problem's test metric: half a test example, or the budget where gradients are counted."""
        scale = float(problem["metric_scale"] or 1.0)
        if problem["censored"]:
            return cls(largest=problem["budget"] * scale if problem["budget"] else math.inf)
        if problem["unit"] == "%" and problem["test_examples"]:
            return cls(smallest=half_example(problem["test_examples"], scale))
        return cls()


def arm_of(
    explored: Mapping[Place, float],
    confirmed: Mapping[Place, float],
    blocks: Sequence[int],
    trials: int,
    limits: Limits,
) -> Arm | None:
    """One method's estimate at a look; None while a run that it needs is missing.

    A metric without a logarithm (0, negative or infinite) gives an estimate of NaN, of which no claim is made.

    Args:
        explored: place → validation loss of every finished random trial.
        confirmed: place → test metric, in display units, of the same settings on a fresh seed. Of a method that is run
            as published: (block, 0) → test metric.
        blocks: the blocks of this look.
        trials: T, random trials per block; 0 for a method that is run as published.
        limits: of the metric.
    """
    places = [[(block, number) for number in range(max(trials, 1))] for block in blocks]
    logs = _logs([[confirmed.get(place, np.nan) for place in row] for row in places], limits)
    if logs is None:
        return Arm(np.array(np.nan), np.array(np.nan), len(blocks))
    if not trials:
        return None if np.isnan(logs).any() else disjoint_blocks(logs[:, 0])
    if any(place not in explored for row in places for place in row):
        return None
    values = np.array([[explored[place] for place in row] for row in places])
    _, share = best_of_subsets(values, logs)
    return best_of_random(values, logs) if share >= 1 else None


def outcomes(
    arms: Mapping[str, Sequence[Arm | None]], baseline: str, family: Family, margin: Margin | None
) -> dict[str, Outcome | None]:
    """The comparison of every method with the baseline, over the looks taken so far.

    Args:
        arms: method → its estimate at every declared look; None where the look is not complete.
        baseline: its label, a key of `arms`.
        family: the comparisons and looks that share the level.
        margin: of equivalence.

    Returns:
        method → outcome; None before the first complete look. The baseline is not among them.
    """
    reference = arms[baseline]
    results: dict[str, Outcome | None] = {}
    for method, own in arms.items():
        if method == baseline:
            continue
        judgements = []
        for candidate, other in zip(own, reference, strict=True):
            if candidate is None or other is None:
                break
            judgements.append(judge(candidate, other, family, margin))
        results[method] = fold(judgements)
    return results


def family_of(spec: SpecFacts) -> Family:
    """The comparisons and looks of a study, from its specification alone: all of them are declared before it begins.

    k is (methods − 1) × problems, where every rung of a ladder of budgets is a problem; J is the number of declared
    looks. Blocks beyond the last look change neither.
    """
    comparisons = (len(spec["methods"]) - 1) * len(spec["problems"])
    return Family(max(comparisons, 1), max(len(looks_of(spec)), 1))


def _logs(values: ArrayLike, limits: Limits) -> Array | None:
    """Logarithms of a metric, NaN where there is no run; None where a value has none."""
    try:
        return log_metric(np.asarray(values, dtype=float), limits.smallest, limits.largest)
    except ValueError:
        return None
