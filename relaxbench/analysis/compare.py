"""Compare two studies, e.g. before and after a change or on two machines: their verdicts, and whether they agree.

Each verdict belongs to its own study. The change between the studies is described (a ratio of geometric means with a
95 % interval of its own), never tested. It is left out where data, budget, metric, baseline or rule differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from relaxbench.analysis.arm import Arm
from relaxbench.analysis.comparison import MethodResult
from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.sentences import listed, number, ratio
from relaxbench.analysis.simultaneous import LEVEL, interval
from relaxbench.analysis.study_arms import StudyArms
from relaxbench.analysis.verdicts import verdicts
from relaxbench.analysis.welch import welch_difference
from relaxbench.space import to_stored

SIDES = ("one", "other")
"""The names of the two studies in columns and files."""

_CLAIMS = ("better", "worse", "equivalent", "undecided")


@dataclass(frozen=True)
class Side:
    """One of the two studies.

    Attributes:
        label: its name on the page; the two labels differ.
        stem: its part of the page's file name.
        frames: the study.
    """

    label: str
    stem: str
    frames: StudyFrames


@dataclass(frozen=True)
class Contrast:
    """One method on one problem in both studies.

    Attributes:
        one, other: its results in each study.
        obstacle: why the two cannot be compared, in a few words; empty where they can.
        agreement: how the two verdicts relate, see `agreement`; "not comparable" where there is an obstacle.
        change: the method's geometric mean in the other study in terms of the first one's, a ratio; NaN where there is
            an obstacle or no complete look.
        low, high: Welch's 95 % interval of the change over blocks; NaN where nothing varies.
    """

    one: MethodResult
    other: MethodResult
    obstacle: str
    agreement: str
    change: float = math.nan
    low: float = math.nan
    high: float = math.nan

    @property
    def decimals(self) -> int:
        """Decimals that both studies' numbers are shown with."""
        return max(self.one.decimals, self.other.decimals)

    @property
    def results(self) -> tuple[MethodResult, MethodResult]:
        """Both results, the first study's first."""
        return self.one, self.other


def compare(one: Side, other: Side) -> list[Contrast]:
    """Compare two studies: one entry per problem and method that both have."""
    contrasts, arms = [], (StudyArms(one.frames), StudyArms(other.frames))
    others = {(result.problem, result.method): result for result in verdicts(other.frames, arms[1])}
    for first in verdicts(one.frames, arms[0]):
        place = first.problem, first.method
        second = others.get(place)
        if second is None:
            continue
        reason = obstacle(one.frames, other.frames, *place)
        if reason:
            contrasts.append(Contrast(first, second, reason, "not comparable"))
            continue
        change = welch(*(study.latest(*place, len(study.frames.looks)) for study in arms))
        contrasts.append(Contrast(first, second, "", agreement(first.verdict, second.verdict), *change))
    return contrasts


def obstacle(one: StudyFrames, other: StudyFrames, problem: str, method: str) -> str:
    """Return why a method's results in two studies cannot be compared, in a few words; empty where they can."""
    first: Mapping[str, Any] = one.problem(problem)
    second: Mapping[str, Any] = other.problem(problem)
    kinds = {
        "data": ("fingerprint",),
        "budgets": ("budget",),
        "metrics": ("metric", "unit", "metric_scale", "censored"),
    }
    differing = [kind for kind, keys in kinds.items() if any(first[key] != second[key] for key in keys)]
    budgets = [f"{about['budget']:,}" if about["budget"] else "unknown" for about in (first, second)]
    differing = [f"budgets ({' and '.join(budgets)} gradients)" if kind == "budgets" else kind for kind in differing]
    if one.method(method)["rule"] != other.method(method)["rule"]:
        differing.append("rules of this name")
    ours, theirs = (frames.opponents.get(method, frames.baseline) for frames in (one, other))
    if ours != theirs or _rule(one, ours) != _rule(other, theirs):
        differing.append("baselines")
    reasons = [f"the studies have different {listed(differing)}"] if differing else []
    if max(one.repetitions, other.repetitions) > 1:
        reasons.append("a repeated study gives rates, and no single verdict")
    return "; ".join(reasons)


def agreement(one: str, other: str) -> str:
    """Return how two verdicts relate: agree, open, differ, contradict, or none where a study has no verdict."""
    if one not in _CLAIMS or other not in _CLAIMS:
        return "none"
    if one == other:
        return "open" if one == "undecided" else "agree"
    if {one, other} == {"better", "worse"}:
        return "contradict"
    return "open" if "undecided" in (one, other) else "differ"


def welch(one: Arm | None, other: Arm | None) -> tuple[float, float, float]:
    """Return the other study's geometric mean in terms of the first one's, with Welch's 95 % interval.

    Args:
        one, other: the method's estimate in each study; None without a complete look.
    """
    if one is None or other is None:
        return math.nan, math.nan, math.nan
    contrast = welch_difference(other, one)
    low, high = interval(contrast, LEVEL / 2) if contrast.error > 0 else (math.nan, math.nan)
    return float(np.exp(contrast.difference)), float(np.exp(low)), float(np.exp(high))


def sentence(contrast: Contrast, one: Side, other: Side) -> str:
    """Return both studies' verdicts on a method, whether they agree, and how its level changed.

    Args:
        contrast: of `compare`.
        one, other: the studies.
    """
    where = f"{contrast.one.title} on {contrast.one.problem_title}"
    if contrast.obstacle:
        return f"{where}: not comparable, {contrast.obstacle}."
    if contrast.one.verdict == "baseline":
        return f"{where} is the baseline of both. {_change(contrast)}".strip()
    sides = zip(contrast.results, (one, other), strict=True)
    answers = "; ".join(_answer(result, side.label) for result, side in sides)
    return f"{where}: {answers}. {_AGREEMENT[contrast.agreement]} {_change(contrast)}".strip()


def only_one(one: StudyFrames, other: StudyFrames) -> dict[str, list[str]]:
    """Return the titles of problems and methods of the first study that the other does not have."""
    return {
        "problems": [str(one.problem(name)["title"]) for name in one.problems if name not in other.problems],
        "methods": [str(one.method(label)["title"]) for label in one.methods if label not in other.methods],
    }


def differences(one: StudyFrames, other: StudyFrames) -> pd.DataFrame:
    """Return the differing circumstances of two studies: where, what, one, other (text, "–" where there is no value).

    Circumstances are study files, versions, machines, engines, and the facts of problems and methods that both have.
    """
    facts = [_facts(study, against) for study, against in ((one, other), (other, one))]
    keys = dict.fromkeys([*facts[0], *facts[1]])
    rows = [(*key, *(known.get(key, "–") for known in facts)) for key in keys]
    return pd.DataFrame([row for row in rows if row[2] != row[3]], columns=["where", "what", *SIDES])


_AGREEMENT = {
    "agree": "They agree.",
    "open": "Neither contradicts the other.",
    "differ": "They differ.",
    "contradict": "They contradict each other.",
    "none": "At least one study has no verdict, so there is nothing to compare.",
}


def _answer(result: MethodResult, label: str) -> str:
    """A study's verdict with its ratio, as a part of a sentence."""
    comparison = result.against("baseline")
    if comparison is None or comparison.verdict == "no claim":
        return f"{label} makes no claim ({result.reason})"
    low, high = (ratio(end) for end in (comparison.low, comparison.high))
    return f"{label} says {comparison.verdict} ({ratio(comparison.ratio)} times, {low} to {high})"


def _change(contrast: Contrast) -> str:
    """How the method's level changed between the studies."""
    if not math.isfinite(contrast.change):
        return ""
    one, other = (number(result.level, contrast.decimals) for result in contrast.results)
    words = f"Its {contrast.one.metric} went from {one} to {other} {contrast.one.unit}".rstrip()
    words += f", {ratio(contrast.change)} times"
    if math.isfinite(contrast.low):
        words += f" (95 % interval {ratio(contrast.low)} to {ratio(contrast.high)}, of this change alone)"
    missed = contrast.one.missed + contrast.other.missed
    return f"{words}." + (f" {missed} runs that missed the tolerance count as the full budget." if missed else "")


def _rule(frames: StudyFrames, label: str | None) -> str | None:
    return None if label is None else str(frames.method(label)["rule"])


def _facts(frames: StudyFrames, against: StudyFrames) -> dict[tuple[str, str], str]:
    """(where, what) → value as text, without problems and methods that the other study does not have."""
    about = frames.manifest
    problems = [name for name in frames.problems if name in against.problems]
    facts = _flat("study file", {key: value for key, value in frames.spec.items() if key not in _LEFT_OUT})
    facts |= _flat("software and machine", {key: value for key, value in about.items() if key not in _LEFT_OUT})
    for name in problems:
        facts |= _flat(
            f"problem {name}",
            {**frames.problem(name), "margin": frames.spec.get("margin") or frames.problem(name)["margin"]},
        )
        engine: Mapping[str, Any] = about.get("engines", {}).get(name, {})
        facts |= _flat(f"engine for {name}", {k: v for k, v in engine.items() if k not in _MEASURED})
    for label in frames.methods:
        if label in against.methods:
            method = frames.method(label)
            facts |= _flat(f"method {label}", {key: value for key, value in method.items() if key in _METHOD})
            for name in problems:  # ranges may differ between problems
                searched = {**to_stored(frames.space(label, name)), **frames.fixed(label, name)}
                facts |= _flat(f"method {label} on {name}", searched)
    return facts


_MEASURED = ("compiled", "rate", "repayment")
"""What a clock decides of an engine beside its path and K."""
_LEFT_OUT = ("name", "description", "problems", "methods", "engines", "key", "origins", "turns")
"""Keys that the page shows elsewhere, or that differ between any two studies."""

_METHOD = ("rule", "role", "arm", "space_name", "dimensions", "options", "scope")


def _flat(where: str, values: Mapping[str, Any], before: str = "") -> dict[tuple[str, str], str]:
    """Nested values by their paths: ("method sgd on digits-mlp", "lr high") → "0.5"."""
    facts: dict[tuple[str, str], str] = {}
    for key, value in values.items():
        what = f"{before} {key}".strip().replace("_", " ")
        if isinstance(value, Mapping):
            facts |= _flat(where, value, what)
        elif value not in (None, "", []):
            facts[where, what] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return facts
