"""The secondary comparisons of a study: best control, equal seconds, and the baseline at the next larger budget.

They are tested for candidates that are better than the baseline, once, at the look that decided that
(`gatekeeping`); of other methods only the ratios are shown.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd

from relaxbench.analysis.arm import Arm
from relaxbench.analysis.arms import Limits
from relaxbench.analysis.at_seconds import at_seconds
from relaxbench.analysis.comparison import Clock, Comparison, MethodResult, Opponent
from relaxbench.analysis.equivalence import Margin
from relaxbench.analysis.gatekeeping import secondary
from relaxbench.analysis.log_scale import smallest_positive
from relaxbench.analysis.obstacles import reason
from relaxbench.analysis.primary import described, unclaimed
from relaxbench.analysis.simultaneous import Judgement
from relaxbench.analysis.study_arms import NOTHING, StudyArms


class _Pair:
    """One secondary comparison before it is judged: what it is, both arms, and what prevents a claim."""

    def __init__(
        self,
        comparison: Comparison,
        own: Arm | None,
        other: Arm | None,
        obstacle: str = "",
        lowest: float = math.nan,
    ) -> None:
        self.own, self.other = own or NOTHING, other or NOTHING
        self.comparison, self.obstacle, self.lowest = comparison, obstacle, lowest
        self.complete = own is not None and other is not None
        self.margin: Margin | None = None


def secondaries(arms: StudyArms, result: MethodResult, primary: Comparison) -> tuple[Comparison, ...]:
    """Return the secondary comparisons of a method, in the order of `comparison.KINDS`.

    Args:
        arms: of the study.
        result: of the method.
        primary: its comparison with the baseline.
    """
    judgement = primary.history[-1] if primary.history else Judgement("no claim", math.nan)
    pairs = [_seconds(arms, result, primary)]
    if result.role == "candidate":
        pairs += [*_control(arms, result, primary), *_longer(arms, result, primary)]
    named = {f"{pair.comparison.opponent} {pair.comparison.clock}": pair for pair in pairs}
    judged = secondary(
        judgement,
        {name: (pair.own, pair.other) for name, pair in named.items()},
        arms.family,
        {name: pair.margin for name, pair in named.items()},
    )
    return tuple(_finished(pair, judged[name], primary) for name, pair in named.items())


def best_control(arms: StudyArms, problem: str) -> str | None:
    """Return the control whose best of T trials has the lowest validation loss on fresh seeds; None without one.

    Test data choose nothing. The loss is a geometric mean in which a disaster counts little, as the verdict's level is;
    a loss with negative values has a mean.
    """
    frames, losses = arms.frames, dict[str, float]()
    controls = [method for method in frames.methods if frames.method(method)["role"] == "control" and frames.looks]
    known = pd.concat([arms.runs(problem, method).table["value"].dropna() for method in controls] or [pd.Series()])
    floor = smallest_positive(known)
    for method in controls:
        latest = arms.latest(problem, method, len(frames.looks))
        loss = arms.runs(problem, method).loss(latest.blocks, floor) if latest else math.nan
        if math.isfinite(loss):
            losses[method] = loss
    return min(losses, key=losses.__getitem__) if losses else None


def _finished(pair: _Pair, judgement: Judgement, primary: Comparison) -> Comparison:
    """A judged secondary comparison with its numbers, or why it makes no claim."""
    own, other = pair.own, pair.other
    comparison = replace(
        described(pair.comparison, judgement, own, other),
        runs=own.runs,
        missed=own.missed,
        reference_runs=other.runs,
        reference_missed=other.missed,
    )
    if primary.verdict == "no claim":
        return unclaimed(comparison, primary.reason)
    if pair.obstacle:
        return unclaimed(replace(comparison, ratio=math.nan), pair.obstacle)
    if not pair.complete:
        return unclaimed(comparison, f"{comparison.reference_title} has no complete look yet")
    if comparison.verdict == "no claim":
        return unclaimed(comparison, reason(comparison, judgement.obstacle, pair.lowest))
    if not comparison.known:
        return unclaimed(comparison, reason(comparison, "logarithm", pair.lowest))
    return comparison


def _seconds(arms: StudyArms, result: MethodResult, primary: Comparison) -> _Pair:
    """A method and the baseline at equal seconds, from the runs of the primary comparison's look."""
    frames, problem = arms.frames, result.problem
    comparison = replace(
        _base(primary, "baseline", "seconds"),
        metric="seconds to tolerance" if result.censored else result.timed_metric,
        unit="s" if result.censored else result.unit,
    )
    if not primary.look:
        return _Pair(comparison, None, None)
    sides = [arms.runs(problem, method) for method in (result.method, primary.reference)]
    counts = primary.blocks, primary.reference_blocks
    ours, theirs = (runs.within(blocks) for runs, blocks in zip(sides, counts, strict=True))
    reading = at_seconds(frames, problem, ours, theirs)
    if reading.obstacle:
        return _Pair(comparison, None, None, reading.obstacle)
    smallest = arms.limits(problem).smallest
    limits = Limits(largest=reading.seconds, in_full=True) if result.censored else Limits(smallest)
    readings = (reading.ours, reading.theirs)
    own, other = (runs.arm(n, limits, read) for runs, n, read in zip(sides, counts, readings, strict=True))
    lowest = min(float(read.min()) for read in readings)
    if result.censored:  # the margin is one of the metric; none was stated of seconds
        return _Pair(replace(comparison, budget=reading.seconds), own, other, lowest=lowest)
    pair = _Pair(replace(comparison, read_at=reading.seconds, margin=result.margin), own, other, lowest=lowest)
    pair.margin = frames.margin(problem)
    return pair


def _control(arms: StudyArms, result: MethodResult, primary: Comparison) -> list[_Pair]:
    """A candidate and the best control, which may have stopped at an earlier look."""
    if result.control is None:
        if all(arms.frames.method(method)["role"] != "control" for method in arms.frames.methods):
            return []
        return [_Pair(_base(primary, "control", "gradients"), None, None, "no control has a complete look yet")]
    comparison = replace(
        _base(primary, "control", "gradients"),
        reference=result.control,
        reference_title=result.control_title,
        margin=result.margin,
    )
    return [_of(arms, result, primary, comparison, result.problem)]


def _longer(arms: StudyArms, result: MethodResult, primary: Comparison) -> list[_Pair]:
    """A candidate and the baseline at the next larger budget of a ladder."""
    frames = arms.frames
    rungs = {
        rung: name
        for name in frames.problems
        if frames.problem(name)["base"] == result.base and (rung := frames.problem(name)["rung"]) is not None
    }
    larger = [rung for rung in rungs if result.rung is not None and rung > result.rung]
    if not larger:
        return []
    comparison = replace(
        _base(primary, "longer", "gradients"),
        reference_title=f"{primary.reference_title} with {min(larger):,} gradients",
        margin=result.margin,
    )
    return [_of(arms, result, primary, comparison, rungs[min(larger)])]


def _of(arms: StudyArms, result: MethodResult, primary: Comparison, comparison: Comparison, problem: str) -> _Pair:
    """Both arms as they were at the primary comparison's look; the opponent's at the last look that it has had."""
    own = arms.latest(result.problem, result.method, primary.look)
    other = arms.latest(problem, comparison.reference, primary.look)
    runs = (arms.runs(result.problem, result.method), arms.runs(problem, comparison.reference))
    lowest = min(float(each.table["test_metric"].min()) for each in runs)
    pair = _Pair(comparison, own, other, lowest=lowest)
    pair.margin = arms.frames.margin(result.problem)
    return pair


def _base(primary: Comparison, opponent: Opponent, clock: Clock) -> Comparison:
    """What a secondary comparison shares with the primary one."""
    return Comparison(
        problem=primary.problem,
        method=primary.method,
        opponent=opponent,
        clock=clock,
        reference=primary.reference,
        reference_title=primary.reference_title,
        metric=primary.metric,
        unit=primary.unit,
        censored=primary.censored,
        decimals=primary.decimals,
        budget=primary.budget,
        family=primary.family,
        looks=primary.looks,
        look=primary.look,
        trials=primary.trials,
        wrong=primary.wrong,
    )
