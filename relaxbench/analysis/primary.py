"""The primary comparison of a method: with the baseline at equal gradients, over the looks that have been taken."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import numpy as np
import pandas as pd
from scipy import special

from relaxbench.analysis.arm import Arm
from relaxbench.analysis.comparison import FARTHEST, Comparison, MethodResult, Verdict
from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.looks import Outcome, wrong_verdict_bound
from relaxbench.analysis.obstacles import advice, reason
from relaxbench.analysis.simultaneous import Judgement
from relaxbench.analysis.study_arms import StudyArms
from relaxbench.util.text import counted


def primary(arms: StudyArms, result: MethodResult) -> Comparison:
    """Compare a method with the baseline."""
    frames, problem, baseline = arms.frames, result.problem, str(result.baseline)
    outcome = arms.outcomes(problem)[result.method]
    comparison = Comparison(
        problem=problem,
        method=result.method,
        opponent="baseline",
        clock="gradients",
        reference=baseline,
        reference_title=result.baseline_title,
        metric=result.metric,
        unit=result.unit,
        censored=result.censored,
        decimals=result.decimals,
        budget=result.budget,
        margin=result.margin,
        family=arms.family.comparisons,
        looks=arms.family.looks,
        trials=result.trials,
        disasters=result.disasters,
    )
    if outcome is None:
        return replace(comparison, reason=_unfinished(frames, result))
    own, other = (arms.arms(problem, method)[outcome.look - 1] for method in (result.method, baseline))
    assert own is not None and other is not None  # as outcomes says
    ours, theirs = (
        arms.runs(problem, method).within(arm.blocks) for method, arm in ((result.method, own), (baseline, other))
    )
    comparison = replace(
        described(comparison, outcome.judgement, own, other),
        look=outcome.look,
        history=outcome.history,
        following=_following(frames, outcome),
        runs=own.runs,
        missed=own.missed,
        reference_missed=other.missed,
        reference_runs=other.runs,
        wrong=wrong_verdict_bound(arms.family.looks, outcome.look),
        needed=blocks_to_decide(outcome.judgement, arms.family.share),
        smallest_margin=smallest_margin(outcome.judgement, arms.family.share),
    )
    obstacle = outcome.judgement.obstacle
    if not obstacle:
        return comparison
    lowest = min(float(runs["test_metric"].min()) for runs in (ours, theirs))
    comparison = replace(comparison, advice=advice(result.problem, obstacle, lowest))
    return unclaimed(comparison, reason(comparison, obstacle, lowest))


def described(comparison: Comparison, judgement: Judgement, own: Arm, other: Arm) -> Comparison:
    """A comparison with the numbers of a judgement, as ratios, and the levels of both arms."""
    ends = (judgement.difference, judgement.low, judgement.high, judgement.band_low, judgement.band_high)
    ratio, low, high, band_low, band_high = (math.exp(end) if abs(end) < 700 else math.nan for end in ends)
    if judgement.band_low == -math.inf:
        band_low = 0.0
    return replace(
        comparison,
        verdict=cast(Verdict, judgement.verdict),
        ratio=ratio,
        low=low,
        high=high,
        error=judgement.error,
        freedom=judgement.freedom,
        band_low=band_low,
        band_high=band_high,
        level=float(np.exp(own.estimate)),
        reference_level=float(np.exp(other.estimate)),
        blocks=own.blocks,
        reference_blocks=other.blocks,
    )


def unclaimed(comparison: Comparison, reason: str) -> Comparison:
    """The comparison without verdict and interval, for a reason."""
    nan = math.nan
    return replace(
        comparison,
        verdict="no claim",
        reason=reason,
        low=nan,
        high=nan,
        error=nan,
        freedom=nan,
        needed=None,
        smallest_margin=nan,
    )


def missed_runs(frames: StudyFrames, problem: str, metric: pd.Series) -> pd.Series:
    """Whether each run missed a censored metric's tolerance within the budget."""
    about = frames.problem(problem)
    if not about["censored"] or not about["budget"]:
        return pd.Series(False, index=metric.index)
    return metric >= about["budget"] * float(about["metric_scale"] or 1)


def blocks_to_decide(judgement: Judgement, share: float) -> int | None:
    """Blocks of both at which an undecided comparison would be decided if estimates and spread stayed the same.

    None where it is decided, where nothing varies, or where `FARTHEST` times the present blocks would not suffice.

    Args:
        judgement: at the latest look.
        share: α/(kJ), the level of one comparison at one look.
    """
    if judgement.verdict != "undecided" or not judgement.error > 0:
        return None
    blocks = np.unique(np.geomspace(1, FARTHEST, 400) * judgement.blocks).round().astype(int)
    growth = blocks / judgement.blocks
    error, freedom = judgement.error / np.sqrt(growth), judgement.freedom * growth
    outer, inner = (-special.stdtrit(freedom, tail) * error for tail in (share / 2, share))
    apart = abs(judgement.difference) > outer
    with np.errstate(invalid="ignore"):
        above = judgement.difference - inner > judgement.band_low
        within = above & (judgement.difference + inner < judgement.band_high)
    enough = np.flatnonzero((apart | within) & (blocks > judgement.blocks))
    return int(blocks[enough[0]]) if len(enough) else None


def smallest_margin(judgement: Judgement, share: float) -> float:
    """The smallest ratio, as a share, within which the comparison would be equivalent; NaN where nothing is known.

    Args:
        judgement: at one look.
        share: α/(kJ), the level of one comparison at one look.
    """
    if not math.isfinite(judgement.error) or not math.isfinite(judgement.freedom):
        return math.nan
    half = float(-special.stdtrit(judgement.freedom, share)) * judgement.error
    return max(-math.expm1(judgement.difference - half), math.expm1(min(judgement.difference + half, 700.0)))


def _following(frames: StudyFrames, outcome: Outcome) -> int | None:
    looks = frames.looks
    return looks[outcome.look] if not outcome.over and outcome.look < len(looks) else None


def _unfinished(frames: StudyFrames, result: MethodResult) -> str:
    """Why there is no look yet."""
    if not frames.looks:
        return "the study declares no look"
    blocks = counted(frames.looks[0], "block")
    if result.protocol == 1:
        return f"not all of the {blocks} are complete"
    trials = f" of {counted(result.trials, 'trial')}" if result.trials else ""
    return f"nothing is decided before the first look, at {blocks}{trials}"
