"""The verdicts of a study: each method's results over blocks, compared with the baseline and the best control."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pandas as pd

from relaxbench.analysis.comparison import Comparison, MethodResult, Opponent, Rates, Verdict
from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.paired import LEVEL, MIN_BLOCKS, PairedTest, compare, holm, verdict, wilson
from relaxbench.analysis.pairing import Pairs, at_gradients, at_seconds
from relaxbench.analysis.two_way import two_way
from relaxbench.util.text import counted

_Draft = tuple[Comparison, Pairs]
"""A comparison before Holm's correction, and the pairs that it rests on."""


def verdicts(frames: StudyFrames) -> list[MethodResult]:
    """Return the results of a study with all comparisons: one entry per problem and method.

    Holm's correction is over one family per opponent: all comparisons of the study with the baseline, and all
    comparisons of candidates with the best control of their problem. In a repeated (A/A) study every repetition is
    judged as a separate study, and the answer is how often each verdict came up.

    The best control has the lowest mean validation loss over its confirm runs: test data choose nothing.
    """
    results = [result for problem in frames.problems for result in _results(frames, problem)]
    families: dict[Opponent, list[MethodResult]] = {
        "baseline": [result for result in results if result.baseline not in (None, result.method)],
        "control": [result for result in results if result.role == "candidate" and result.control],
    }
    comparisons: dict[tuple[str, str], tuple[Comparison, ...]] = defaultdict(tuple)
    for opponent, family in families.items():
        for judged in _judge([draft for result in family for draft in _drafts(frames, result, opponent)]):
            comparisons[judged.problem, judged.method] += (judged,)
    rates = _rates(frames, families["baseline"]) if frames.repetitions > 1 else {}
    return [
        replace(
            result,
            comparisons=comparisons[result.problem, result.method],
            rates=rates.get((result.problem, result.method)),
        )
        for result in results
    ]


def _results(frames: StudyFrames, problem: str) -> list[MethodResult]:
    """All methods' results on a problem and their opponents, without the comparisons."""
    results = [_describe(frames, problem, method) for method in frames.methods]
    baseline, control = frames.baseline, _best_control(frames, problem)
    decimals = _decimals([result.std for result in results])
    timed = decimals
    if results and results[0].censored:  # a metric that counts gradients; at equal seconds it counts seconds
        timed = _decimals([result.std * result.seconds / result.gradients for result in results if result.gradients])
    return [
        replace(
            result,
            baseline=baseline,
            baseline_title=frames.method(baseline)["title"] if baseline else "",
            control=control,
            control_title=frames.method(control)["title"] if control else "",
            decimals=decimals,
            seconds_decimals=timed,
        )
        for result in results
    ]


def _describe(frames: StudyFrames, problem: str, method: str) -> MethodResult:
    """A method's own results, compared with nothing."""
    about, how = frames.problem(problem), frames.method(method)
    blocks = _of(frames.blocks, problem, method)
    searched = _of(frames.trials, problem, method)
    searched = searched[(searched["phase"] == "explore") & (searched["status"] == "done")]
    metric = blocks["test_metric"]
    return MethodResult(
        problem=problem,
        problem_title=about["title"],
        method=method,
        title=how["title"],
        role=how["role"],
        metric=about["metric"],
        unit=about["unit"],
        censored=bool(about["censored"]),
        budget=about["budget"],
        margin=frames.margin(problem),
        repetitions=frames.repetitions,
        blocks=len(blocks),
        planned=int(frames.spec.get("blocks") or 0) * frames.repetitions,
        mean=float(metric.mean()),
        std=float(metric.std(ddof=1)),
        gradients=float(blocks["gradients"].mean()),
        seconds=float(blocks["seconds"].mean()),
        peak_bytes=frames.cost(method, problem, "peak_bytes"),
        explored=len(searched),
        diverged=int(searched["diverged"].sum()),
        confirm_diverged=int(blocks["diverged"].sum()),
        missed=_missed(frames, problem, blocks),
    )


def _drafts(frames: StudyFrames, result: MethodResult, opponent: Opponent) -> list[_Draft]:
    """A method against the baseline or the best control, at equal gradients and at equal seconds."""
    problem = result.problem
    reference, title = (
        (result.baseline, result.baseline_title) if opponent == "baseline" else (result.control, result.control_title)
    )
    ours, theirs = _of(frames.blocks, problem, result.method), _of(frames.blocks, problem, str(reference))
    obstacle, timed = _obstacle(frames, problem, ours, theirs), at_seconds(frames, problem, ours, theirs)
    margin, (low, high) = _margin(frames, problem, ours, theirs), _beyond(frames, problem, ours, theirs)
    comparison = Comparison(
        problem=problem,
        method=result.method,
        opponent=opponent,
        clock="gradients",
        reference=str(reference),
        reference_title=title,
        metric=result.metric,
        unit=result.difference_unit,
        censored=result.censored,
        decimals=result.decimals,
        budget=result.budget,
        margin=margin,
        runs=len(ours),
        missed=_missed(frames, problem, ours),
        reference_missed=_missed(frames, problem, theirs),
        reason=obstacle,
    )
    at_equal_seconds = replace(
        comparison,
        clock="seconds",
        metric=result.timed_metric,
        unit="s" if result.censored else comparison.unit,
        decimals=result.seconds_decimals,
        margin=None if result.censored else margin,  # the margin is one of the metric; none was stated of seconds
        reason=obstacle or timed.obstacle,
        read_at=timed.seconds,
    )
    at_equal_gradients = replace(comparison, beyond_low=low, beyond_high=high)
    return [(at_equal_gradients, at_gradients(ours, theirs)), (at_equal_seconds, timed)]


def _judge(family: list[_Draft]) -> list[Comparison]:
    """Test the comparisons of one family, with Holm's correction over those that nothing prevents."""
    level = LEVEL / max(sum(not comparison.reason for comparison, _ in family), 1)
    tests = [_test(pairs, comparison.margin, level) for comparison, pairs in family]
    claims = [test if not comparison.reason else None for (comparison, _), test in zip(family, tests, strict=True)]
    adjusted = holm([test.p if test else np.nan for test in claims])
    counted_tests = int(np.isfinite(adjusted).sum())
    judged = []
    for (comparison, pairs), test, claim, p_holm in zip(family, tests, claims, adjusted, strict=True):
        comparison = replace(comparison, pairs=len(pairs.table), family=counted_tests, p_holm=float(p_holm))
        if test:
            comparison = replace(
                comparison,
                difference=test.difference,
                low=test.low,
                high=test.high,
                p=test.p,
                p_exact=test.p_exact,
                p_equivalence=test.p_equivalence,
                correlation=test.correlation,
                detectable=test.detectable,
                probability_better=test.better,
            )
        if claim:
            comparison = replace(comparison, verdict=verdict(claim, float(p_holm)))
        judged.append(comparison)
    return judged


def _test(pairs: Pairs, margin: float | None, level: float) -> PairedTest | None:
    """The test over the blocks that both have; None with fewer than two."""
    table = pairs.table
    if len(table) < 2:
        return None
    return compare(table["ours"].to_numpy(), table["theirs"].to_numpy(), margin, level)


def _rates(frames: StudyFrames, family: list[MethodResult]) -> dict[tuple[str, str], Rates]:
    """How often each verdict came up over the repetitions of a study, each judged as a separate study."""
    verdicts: dict[tuple[str, str], Counter[Verdict]] = defaultdict(Counter)
    different: Counter[tuple[str, str]] = Counter()
    planned = int(frames.spec.get("blocks") or 1)
    for _, part in frames.blocks.groupby("repetition"):
        once = replace(frames, blocks=part)
        size = part.groupby(["problem", "method"]).size()
        complete = [
            result
            for result in family  # an unfinished repetition is not counted
            if min(size.get((result.problem, method), 0) for method in (result.method, result.baseline)) >= planned
        ]
        judged = _judge([draft for result in complete for draft in _drafts(once, result, "baseline")])
        for gradients, seconds in zip(judged[::2], judged[1::2], strict=True):
            place = gradients.problem, gradients.method
            verdicts[place][gradients.verdict] += 1
            different[place] += not {"better", "worse"}.isdisjoint((gradients.verdict, seconds.verdict))
    places = [(result.problem, result.method) for result in family]
    return {place: _rate(verdicts[place], different[place]) for place in places}


def _rate(verdicts: Counter[Verdict], different: int) -> Rates:
    total = verdicts.total()
    return Rates(total, different, different / total if total else np.nan, *wilson(different, total), verdicts)


def _beyond(frames: StudyFrames, problem: str, ours: pd.DataFrame, theirs: pd.DataFrame) -> tuple[float, float]:
    """The interval of the difference under new blocks and new test examples; NaN where it is not known."""
    both = ours.merge(theirs, on="block", suffixes=("_x", "_y"))
    arms = [[frames.correct.get(run) for run in both[f"confirm_{side}"]] for side in "xy"]
    if len(both) < MIN_BLOCKS or any(run is None for arm in arms for run in arm):
        return np.nan, np.nan
    scale = float(frames.problem(problem)["metric_scale"] or 1)
    test = two_way(*(np.stack([run for run in arm if run is not None]) for arm in arms))
    mean = float((both["test_metric_x"] - both["test_metric_y"]).mean())
    if not np.isclose(scale * test.difference, mean, rtol=1e-3, atol=1e-6 * scale):
        return np.nan, np.nan  # the metric is not the share of wrong answers: a diverged run has the worst metric
    return scale * test.low, scale * test.high


def _margin(frames: StudyFrames, problem: str, ours: pd.DataFrame, theirs: pd.DataFrame) -> float | None:
    """The margin of equivalence; None where both runs of a block missed the tolerance.

    Such runs are equal only because both stopped at the budget, which is no evidence of equivalence.
    """
    both = ours.merge(theirs, on="block")
    missed = [_missed_rows(frames, problem, both[f"test_metric_{side}"]) for side in "xy"]
    return None if (missed[0] & missed[1]).any() else frames.margin(problem)


def _obstacle(frames: StudyFrames, problem: str, ours: pd.DataFrame, theirs: pd.DataFrame) -> str:
    """Why no claim is possible, in a few words; empty where one is."""
    common = set(ours["block"]) & set(theirs["block"])
    if not len(ours):
        return "no complete block yet"
    if not len(theirs):
        return "the reference has no complete block yet"
    if len(common) < MIN_BLOCKS:
        return f"{counted(len(common), 'complete block')}, at least {MIN_BLOCKS} are needed"
    if ours["diverged"].all() or theirs["diverged"].all():
        return "every confirming run diverged" + ("" if ours["diverged"].all() else " in the reference")
    if _missed(frames, problem, ours) == len(ours) and _missed(frames, problem, theirs) == len(theirs):
        return "no run of either reached the tolerance"
    return ""


def _best_control(frames: StudyFrames, problem: str) -> str | None:
    """The control of lowest mean validation loss (capped, as stored) over its confirm runs, if any has one."""
    controls = [method for method in frames.methods if frames.method(method)["role"] == "control"]
    losses = {method: _of(frames.blocks, problem, method)["value"].mean() for method in controls}
    losses = {method: loss for method, loss in losses.items() if np.isfinite(loss)}
    return min(losses, key=losses.__getitem__) if losses else None


def _missed(frames: StudyFrames, problem: str, blocks: pd.DataFrame) -> int:
    """Confirm runs that did not reach a censored metric's tolerance within the budget."""
    return int(_missed_rows(frames, problem, blocks["test_metric"]).sum())


def _missed_rows(frames: StudyFrames, problem: str, metric: pd.Series) -> pd.Series:
    about = frames.problem(problem)
    if not about["censored"] or not about["budget"]:
        return pd.Series(False, index=metric.index)
    return metric >= about["budget"] * float(about["metric_scale"] or 1)


def _of(rows: pd.DataFrame, problem: str, method: str) -> pd.DataFrame:
    return rows[(rows["problem"] == problem) & (rows["method"] == method)]


def _decimals(spreads: list[float]) -> int:
    """Decimals that show two digits of the smallest spread over methods, unless it is far below the typical one."""
    positive = [spread for spread in spreads if spread > 0]  # NaN is not
    if not positive:
        return 2
    spread = max(min(positive), float(np.median(positive)) / 10)
    return int(min(max(1 - math.floor(math.log10(spread)), 0), 6))
