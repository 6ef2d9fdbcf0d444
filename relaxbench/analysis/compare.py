"""Compare two studies, e.g. before and after a change or on two machines: their verdicts, and whether they agree.

Each verdict belongs to its own study. The change between the studies is described (a difference of means with an
uncorrected interval), never tested. It is left out where data, budget, metric, baseline or rule differ.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from relaxbench.analysis.comparison import MethodResult
from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.paired import LEVEL
from relaxbench.analysis.sentences import listed, number
from relaxbench.analysis.verdicts import verdicts
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
        change: of the method's mean from the first study to the other; NaN where there is an obstacle or fewer than two
            blocks.
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
    others = {(result.problem, result.method): result for result in verdicts(other.frames)}
    contrasts = []
    for first in verdicts(one.frames):
        place = first.problem, first.method
        second = others.get(place)
        if second is None:
            continue
        reason = obstacle(one.frames, other.frames, *place)
        if reason:
            contrasts.append(Contrast(first, second, reason, "not comparable"))
            continue
        change = welch(*(_values(side.frames, *place) for side in (one, other)))
        contrasts.append(Contrast(first, second, "", agreement(first.verdict, second.verdict), *change))
    return contrasts


def obstacle(one: StudyFrames, other: StudyFrames, problem: str, method: str) -> str:
    """Return why a method's results in two studies cannot be compared, in a few words; empty where they can."""
    first: Mapping[str, object] = one.problem(problem)
    second: Mapping[str, object] = other.problem(problem)
    kinds = {
        "data": ("fingerprint",),
        "budgets": ("budget",),
        "metrics": ("metric", "unit", "metric_scale", "censored"),
    }
    differing = [kind for kind, keys in kinds.items() if any(first[key] != second[key] for key in keys)]
    if one.method(method)["rule"] != other.method(method)["rule"]:
        differing.append("rules of this name")
    if one.baseline != other.baseline or _rule(one, one.baseline) != _rule(other, other.baseline):
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


def welch(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    """Return the mean of `other` minus the mean of `one` with Welch's 95 % interval, for unequal variances.

    Args:
        one, other: one result per block, ``[n]`` and ``[m]``.
    """
    if min(len(one), len(other)) < 2:
        return math.nan, math.nan, math.nan
    change = float(other.mean() - one.mean())
    if np.ptp(one) == 0 and np.ptp(other) == 0:
        return change, math.nan, math.nan
    with warnings.catch_warnings():  # scipy warns of a sample that does not vary; the other one does
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = stats.ttest_ind(other, one, equal_var=False).confidence_interval(1 - LEVEL)
    return change, float(interval.low), float(interval.high)


def sentence(contrast: Contrast, one: Side, other: Side) -> str:
    """Return both studies' verdicts on a method, whether they agree, and how its mean changed.

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
    answers = "; ".join(_answer(result, contrast.decimals, side.label) for result, side in sides)
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


def _answer(result: MethodResult, decimals: int, label: str) -> str:
    """A study's verdict with its difference, as a part of a sentence."""
    comparison = result.against("baseline")
    if comparison is None or comparison.verdict == "no claim":
        return f"{label} makes no claim ({result.reason})"
    numbers = (comparison.difference, comparison.low, comparison.high)
    difference, low, high = (number(value, decimals, sign=True) for value in numbers)
    amount = f"{difference} {comparison.unit}".rstrip()
    return f"{label} says {comparison.verdict} ({amount}, 95 % interval {low} to {high})"


def _change(contrast: Contrast) -> str:
    """How the method's mean changed between the studies."""
    decimals = contrast.decimals
    if not math.isfinite(contrast.change):
        return ""
    change = number(contrast.change, decimals, sign=True)
    words = f"Its mean changed by {change} {contrast.one.difference_unit}".rstrip()
    if math.isfinite(contrast.low):
        low, high = (number(end, decimals, sign=True) for end in (contrast.low, contrast.high))
        words += f" (95 % Welch interval {low} to {high}, unadjusted)"
    missed = contrast.one.missed + contrast.other.missed
    return f"{words}." + (f" {missed} runs that missed the tolerance count as the full budget." if missed else "")


def _rule(frames: StudyFrames, label: str | None) -> str | None:
    return None if label is None else str(frames.method(label)["rule"])


def _values(frames: StudyFrames, problem: str, method: str) -> np.ndarray[Any, Any]:
    """The test metric of every complete block."""
    blocks = frames.blocks[(frames.blocks["problem"] == problem) & (frames.blocks["method"] == method)]
    return np.asarray(blocks["test_metric"], dtype=float)


def _facts(frames: StudyFrames, against: StudyFrames) -> dict[tuple[str, str], str]:
    """(where, what) → value as text, without problems and methods that the other study does not have."""
    about = frames.manifest
    problems = [name for name in frames.problems if name in against.problems]
    facts = _flat("study file", {key: value for key, value in frames.spec.items() if key not in _LEFT_OUT})
    facts |= _flat("software and machine", {key: value for key, value in about.items() if key not in _LEFT_OUT})
    for name in problems:
        facts |= _flat(f"problem {name}", {**frames.problem(name), "margin": frames.margin(name)})
        facts |= _flat(f"engine for {name}", about.get("engines", {}).get(name, {}))
    for label in frames.methods:
        if label in against.methods:
            method = frames.method(label)
            facts |= _flat(f"method {label}", {key: value for key, value in method.items() if key in _METHOD})
            for name in problems:  # ranges may differ between problems
                searched = {**to_stored(frames.space(label, name)), **frames.fixed(label, name)}
                facts |= _flat(f"method {label} on {name}", searched)
    return facts


_LEFT_OUT = ("name", "description", "problems", "methods", "engines", "key", "origins", "turns")
"""Keys that the page shows elsewhere, or that differ between any two studies."""

_METHOD = ("rule", "role", "dimensions", "options", "scope")


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
