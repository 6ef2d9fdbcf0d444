"""From the trials of a study to its verdicts: the one way that both the plan of trials and the report take.

The plan asks which methods go on after a look, the report asks for the verdict; both call `arm_of` and `outcomes`,
which also say where runs that diverged or missed a tolerance leave nothing to claim.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from relaxbench.analysis.all_subsets import confirmed_ranks, ranking
from relaxbench.analysis.arm import Arm, disjoint_blocks
from relaxbench.analysis.equivalence import Margin
from relaxbench.analysis.jackknife import best_of_random
from relaxbench.analysis.log_scale import Array, half_example, log_metric
from relaxbench.analysis.looks import Outcome, fold
from relaxbench.analysis.simultaneous import Family, Judgement, Obstacle, judge
from relaxbench.store.facts import ProblemFacts, SpecFacts, looks_of, opponent_of

Place = tuple[int, int]
"""The place of a trial in its method's plan: block and number."""


@dataclass(frozen=True)
class Limits:
    """What a single run may count as, in the metric's display unit; see `log_scale`.

    Attributes:
        smallest: the smallest value that counts.
        largest: the largest one; a run that reaches it has missed the tolerance of a censored metric.
        in_full: no disaster is limited, see `winsorized`: where gradients are counted, a miss counts as the whole
            budget, however large that is.
    """

    smallest: float = 0.0
    largest: float = math.inf
    in_full: bool = False

    @classmethod
    def of(cls, problem: ProblemFacts) -> Limits:
        """The limits of a problem's test metric: half a test example, or the budget where gradients are counted."""
        scale = float(problem["metric_scale"] or 1.0)
        if problem["censored"]:
            return cls(largest=problem["budget"] * scale if problem["budget"] else math.inf, in_full=True)
        if problem["unit"] == "%" and problem["test_examples"]:
            return cls(smallest=half_example(problem["test_examples"], scale))
        return cls()


def arm_of(
    explored: Mapping[Place, float],
    confirmed: Mapping[Place, float],
    blocks: Sequence[int],
    trials: int,
    limits: Limits,
    diverged: Collection[Place] = (),
) -> Arm | None:
    """One method's estimate at a look; None while a run that it needs is missing.

    It rests on the confirmations of the best trials of these blocks alone, so later runs do not change it. A single
    disaster counts little, see `winsorized`. A metric without a logarithm (0, negative or infinite) gives an estimate
    of NaN, of which no claim is made.

    Args:
        explored: place → validation loss of every finished random trial.
        confirmed: place → test metric, in display units, of the same settings on a fresh seed. Of a method that is run
            as published: (block, 0) → test metric.
        blocks: the blocks of this look.
        trials: T, random trials per block; 0 for a method that is run as published.
        limits: of the metric.
        diverged: places of the runs on fresh seeds that diverged.
    """
    places = [(block, number) for block in blocks for number in range(max(trials, 1))]
    if trials and any(place not in explored for place in places):
        return None
    losses = np.array([explored.get(place, 0.0) for place in places]).reshape(len(blocks), -1)
    best = ranking(losses)[: confirmed_ranks(len(places), trials)] if trials else np.arange(len(places))
    metrics = np.full(len(places), np.nan)
    metrics[best] = [confirmed.get(places[index], np.nan) for index in best]
    if np.isnan(metrics[best]).any():
        return None
    logs = _logs(metrics.reshape(losses.shape), limits)
    if logs is None:
        arm = Arm(np.array(np.nan), np.array(np.nan), len(blocks))
    else:
        full = limits.in_full
        arm = best_of_random(losses, logs, in_full=full) if trials else disjoint_blocks(logs[:, 0], in_full=full)
    lost, missed = sum(places[index] in diverged for index in best), int((metrics[best] >= limits.largest).sum())
    return replace(arm, runs=len(best), diverged=lost, missed=missed)


def outcomes(
    arms: Mapping[str, Sequence[Arm | None]], opponents: Mapping[str, str], family: Family, margin: Margin | None
) -> dict[str, Outcome | None]:
    """The comparison of every method with its opponent, over the looks taken so far.

    Args:
        arms: method → its estimate at every declared look; None where the look is not complete.
        opponents: method → the one that it is compared with, see `opponents_of`.
        family: the comparisons and looks that share the level.
        margin: of equivalence.

    Returns:
        method → outcome; None before the first complete look. The baseline is not among them.
    """
    results: dict[str, Outcome | None] = {}
    for method, opponent in opponents.items():
        judgements = []
        for candidate, other in zip(arms[method], arms[opponent], strict=True):
            if candidate is None or other is None:
                break
            judgements.append(claimable(judge(candidate, other, family, margin), candidate, other))
        results[method] = fold(judgements)
    return results


def opponents_of(spec: SpecFacts) -> dict[str, str]:
    """The opponent of every method but the baseline: the baseline, or the one that it is stated ``against``."""
    pairs = {method: opponent_of(spec, method) for method in spec["methods"]}
    return {method: opponent for method, opponent in pairs.items() if opponent is not None}


def claimable(judgement: Judgement, candidate: Arm, reference: Arm) -> Judgement:
    """The judgement, or "no claim" where the runs behind both arms leave nothing to claim."""
    obstacle = judgement.obstacle or _obstacle(judgement, candidate, reference)
    if not obstacle:
        return judgement
    nan = math.nan
    return replace(judgement, verdict="no claim", low=nan, high=nan, error=nan, freedom=nan, obstacle=obstacle)


def family_of(spec: SpecFacts) -> Family:
    """The comparisons and looks of a study, from its specification alone: all of them are declared before it begins.

    k is (methods − 1) × problems, where every rung of a ladder of budgets is a problem; J is the number of declared
    looks. Blocks beyond the last look change neither.
    """
    comparisons = (len(spec["methods"]) - 1) * len(spec["problems"])
    return Family(max(comparisons, 1), max(len(looks_of(spec)), 1))


def _obstacle(judgement: Judgement, candidate: Arm, reference: Arm) -> Obstacle:
    """What runs that diverged or missed the tolerance prevent."""
    if 0 < candidate.runs == candidate.diverged:
        return "diverged"
    if 0 < reference.runs == reference.diverged:
        return "reference diverged"
    if 0 < candidate.runs == candidate.missed and 0 < reference.runs == reference.missed:
        return "missed"
    return "hidden" if judgement.verdict == "equivalent" and candidate.missed and reference.missed else ""


def _logs(values: ArrayLike, limits: Limits) -> Array | None:
    """Logarithms of a metric, NaN where no run is needed; None where a value has none."""
    try:
        return log_metric(np.asarray(values, dtype=float), limits.smallest, limits.largest)
    except ValueError:
        return None
