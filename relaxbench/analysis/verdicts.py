"""The verdicts of a study: each method's estimates at the declared looks, compared with the baseline's."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import cast

import numpy as np
import pandas as pd

from relaxbench.analysis.arm import Arm
from relaxbench.analysis.at_seconds import worst_metric
from relaxbench.analysis.comparison import MethodResult, Rates, Verdict
from relaxbench.analysis.disasters import Disasters, disaster_limit, disasters
from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.means import wilson
from relaxbench.analysis.primary import missed_runs, primary
from relaxbench.analysis.progress import blocks_needed
from relaxbench.analysis.publications import origin
from relaxbench.analysis.secondary_comparisons import best_control, secondaries
from relaxbench.analysis.sentences import FINEST, decimals_of
from relaxbench.analysis.study_arms import StudyArms
from relaxbench.store.facts import protocol, sampler_of
from relaxbench.store.schema import FINISHED


def verdicts(frames: StudyFrames, arms: StudyArms | None = None) -> list[MethodResult]:
    """Return the results of a study with all comparisons: one entry per problem and method.

    Primary comparisons are those with the baseline at equal gradients: they share the level, over all declared looks.
    Secondary ones (best control, equal seconds, next larger budget) are tested for methods that are better, at the look
    that decided that. In a repeated (A/A) study every repetition is a separate study, and the answer is how often each
    verdict came up.

    Args:
        frames: the study.
        arms: those of the study, if they have been computed.
    """
    arms = arms or StudyArms(frames)
    return [_judged(arms, result) for problem in frames.problems for result in _results(arms, problem)]


def _judged(arms: StudyArms, result: MethodResult) -> MethodResult:
    """A result with its comparisons, or with its rates in a repeated study."""
    if result.baseline in (None, result.method):
        return result
    if arms.frames.repetitions > 1:
        return replace(result, rates=_rates(arms, result))
    first = primary(arms, result)
    return replace(result, comparisons=(first, *secondaries(arms, result, first)))


def _results(arms: StudyArms, problem: str) -> list[MethodResult]:
    """All methods' results on a problem and their opponents, without the comparisons."""
    frames = arms.frames
    planned = [blocks_needed(arms, problem, repetition) for repetition in range(frames.repetitions)]
    results = [_describe(arms, problem, method, sum(blocks[method] for blocks in planned)) for method in frames.methods]
    opponents, control = frames.opponents, best_control(arms, problem)
    decimals = _decimals([result.std for result in results], 0 if frames.problem(problem)["censored"] else 2)
    return [
        replace(
            result,
            baseline=opponent,
            baseline_title=frames.method(opponent)["title"] if opponent else "",
            control=control,
            control_title=frames.method(control)["title"] if control else "",
            decimals=decimals,
        )
        for result in results
        for opponent in [opponents.get(result.method, frames.baseline)]
    ]


def _describe(arms: StudyArms, problem: str, method: str, planned: int) -> MethodResult:
    """A method's own results, compared with nothing."""
    frames = arms.frames
    about, how = frames.problem(problem), frames.method(method)
    metric, runs = arms.blocks(problem, method)["test_metric"], arms.confirmations(problem, method)
    searched = arms.trials(problem, method, "explore")
    searched = searched[searched["status"].isin(FINISHED)]
    latest = [arms.latest(problem, method, len(frames.looks)), *_others(arms, problem, method)]
    margin, published = frames.margin(problem), how["publications"].get(problem)
    return MethodResult(
        problem=problem,
        problem_title=about["title"],
        method=method,
        title=how["title"],
        role=how["role"],
        base=about["base"],
        rung=about["rung"],
        arm=how["arm"],
        without=how["without"],
        instead=how["instead"],
        relaxing=how["scope"] is not None,
        space=how["space_name"],
        dimensions=how["dimensions"],
        settings=origin(published),
        borrowed=bool(published and not published["fits"]),
        metric=about["metric"],
        unit=about["unit"],
        censored=bool(about["censored"]),
        budget=about["budget"],
        margin=margin.words(_unit(about["unit"])) if margin else "",
        repetitions=frames.repetitions,
        looks=frames.looks,
        protocol=protocol(frames.spec),
        trials=frames.tuning(method),
        sampler=sampler_of(how),
        blocks=sum(arm.blocks for arm in latest if arm),
        planned=planned,
        level=float(np.exp(latest[0].estimate)) if latest[0] is not None else math.nan,
        mean=float(metric.mean()),
        std=float(metric.std(ddof=1)),
        gradients=float(runs["gradients"].mean()),
        seconds=float(runs["seconds"].mean()),
        cost_spread=frames.cost(method, problem, "seconds_spread"),
        peak_bytes=frames.cost(method, problem, "peak_bytes"),
        outer_steps=_outer_steps(frames, problem, method, runs),
        explored=len(searched),
        diverged=int(searched["diverged"].sum()),
        confirmed=len(runs),
        confirm_diverged=int(runs["diverged"].sum()),
        missed=int(missed_runs(frames, problem, runs["test_metric"]).sum()),
        disasters=_disasters(arms, problem, frames.opponents.get(method, frames.baseline), runs),
    )


def _others(arms: StudyArms, problem: str, method: str) -> list[Arm | None]:
    """The arms of the other repetitions, of which only the blocks are counted."""
    looks, found = len(arms.frames.looks), []
    for repetition in range(1, arms.frames.repetitions):
        complete = [arm for arm in arms.arms(problem, method, repetition)[:looks] if arm is not None]
        found.append(complete[-1] if complete else None)
    return found


def _rates(arms: StudyArms, result: MethodResult) -> Rates:
    """How often each verdict came up over the complete repetitions of a study."""
    last = len(arms.frames.looks)
    counts: Counter[Verdict] = Counter()
    for repetition in range(arms.frames.repetitions):
        outcome = arms.outcomes(result.problem, repetition)[result.method]
        if outcome is not None and (outcome.over or outcome.look == last):
            counts[cast(Verdict, outcome.verdict)] += 1
    total, different = counts.total(), counts["better"] + counts["worse"]
    return Rates(total, different, different / total if total else np.nan, *wilson(different, total), counts)


def _disasters(arms: StudyArms, problem: str, opponent: str | None, runs: pd.DataFrame) -> Disasters | None:
    """How many confirm runs lie far above the opponent's median.

    None without any, without a baseline, and where no run can lie above: beyond 100 %, the budget, or what a run that
    diverged counts as.
    """
    if opponent is None or runs.empty:
        return None
    about, most = arms.frames.problem(problem), worst_metric(arms.frames, problem)
    if about["unit"] == "%":
        most = min(most, 100.0)
    if about["censored"] and about["budget"]:
        most = min(most, float(about["budget"]))
    reference = arms.confirmations(problem, opponent)["test_metric"]
    limit = disaster_limit(reference, arms.limits(problem).smallest)
    return disasters(runs["test_metric"], limit) if 0 < limit < most else None


def _outer_steps(frames: StudyFrames, problem: str, method: str, runs: pd.DataFrame) -> float:
    """The median outer steps of a run: its gradients by those of an outer step, of all replicas.

    NaN for methods that smooth the loss over no scope: the inner loop of Lookahead, for one, relaxes nothing.
    """
    if frames.method(method)["scope"] is None:
        return math.nan
    fixed = frames.fixed(method, problem).get("inner_steps", np.nan)
    inner = pd.Series([params.get("inner_steps", fixed) for params in runs["params"]], index=runs.index, dtype=float)
    each, beside = frames.method(method)["outer_step"]
    return float((runs["gradients"] / (each * inner + beside)).median())


def _unit(unit: str) -> str:
    return "points" if unit == "%" else unit


def _decimals(spreads: list[float], usual: int = 2) -> int:
    """Decimals that show two digits of the smallest spread over methods, unless it is far below the typical one.

    Args:
        spreads: of the methods.
        usual: where nothing varies.
    """
    positive = [spread for spread in spreads if 0 < spread < math.inf]  # NaN is not
    if not positive:
        return usual
    spread = max(min(positive), float(np.median(positive)) / 10)
    return min(max(decimals_of(spread), 0), FINEST)
