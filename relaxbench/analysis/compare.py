"""Two studies side by side, before and after a change or on two machines: what each said, and whether they agree.

Each verdict is its own study's. What lies between the studies is described (a difference of means with an interval
that nothing corrects) and never judged; where data, budget or metric differ, it is not even described.
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

from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.paired import LEVEL
from relaxbench.analysis.sentences import Row, difference_unit, listed, number
from relaxbench.analysis.verdicts import verdicts
from relaxbench.space import to_stored

SIDES = ("one", "other")
"""How the columns of the two studies end."""

_CLAIMS = ("better", "worse", "equivalent", "undecided")
_KEPT = ("mean", "std", "blocks", "difference", "low", "high", "verdict", "reason", "missed", "seconds")


@dataclass(frozen=True)
class Side:
    """One of the two studies.

    Attributes:
        label: how the page calls it; the two differ.
        stem: of the file's name.
        frames: the study.
    """

    label: str
    stem: str
    frames: StudyFrames


def compare(one: Side, other: Side) -> pd.DataFrame:
    """One row per problem x method that both studies have.

    Columns: problem, method, their titles, role, metric, unit, censored, decimals, reference_title; of each study (see
    `SIDES`) mean_…, std_…, blocks_…, difference_…, low_…, high_…, verdict_…, reason_…, missed_… and seconds_… as in
    `verdicts`; obstacle (why the two cannot be compared, empty where they can); agreement (see `agreement`); change of
    the method's mean from the first study to the other, with change_low and change_high of Welch's 95 % interval over
    blocks, all NaN where there is an obstacle or fewer than two blocks, the interval also where nothing varies.
    """
    tables = [verdicts(side.frames) for side in (one, other)]
    keyed = [{(row["problem"], row["method"]): row for row in table.to_dict("records")} for table in tables]
    rows = []
    for key, first in keyed[0].items():
        second = keyed[1].get(key)
        if second is None:
            continue
        about = ("problem", "method", "problem_title", "title", "role", "metric", "unit", "censored", "reference_title")
        row = {name: first[name] for name in about}
        for side, found in zip(SIDES, (first, second), strict=True):
            row |= {f"{name}_{side}": found[name] for name in _KEPT}
        row["decimals"] = max(first["decimals"], second["decimals"])
        row["obstacle"] = obstacle(one.frames, other.frames, *key)
        row["agreement"] = "not comparable" if row["obstacle"] else agreement(first["verdict"], second["verdict"])
        values = [_values(side.frames, *key) for side in (one, other)]
        change = (math.nan,) * 3 if row["obstacle"] else welch(*values)
        rows.append(row | dict(zip(("change", "change_low", "change_high"), change, strict=True)))
    return pd.DataFrame(rows)


def obstacle(one: StudyFrames, other: StudyFrames, problem: str, method: str) -> str:
    """Why a method's results in two studies cannot be compared, in a few words; empty where they can."""
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
    found = [f"the studies have different {listed(differing)}"] if differing else []
    if max(one.repetitions, other.repetitions) > 1:
        found.append("a repeated study gives rates, and no single verdict")
    return "; ".join(found)


def agreement(one: str, other: str) -> str:
    """How two verdicts stand to each other: agree, open, differ, contradict, or none where there are not two."""
    if one not in _CLAIMS or other not in _CLAIMS:
        return "none"
    if one == other:
        return "open" if one == "undecided" else "agree"
    if {one, other} == {"better", "worse"}:
        return "contradict"
    return "open" if "undecided" in (one, other) else "differ"


def welch(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    """Mean of `other` minus mean of `one`, and its 95 % interval, whatever the two variances.

    Args:
        one, other: one result per block, ``[n]`` and ``[m]``.
    """
    if min(len(one), len(other)) < 2:
        return math.nan, math.nan, math.nan
    change = float(other.mean() - one.mean())
    if np.ptp(one) == 0 and np.ptp(other) == 0:
        return change, math.nan, math.nan
    with warnings.catch_warnings():  # scipy warns of an arm that does not vary; the other one does
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = stats.ttest_ind(other, one, equal_var=False).confidence_interval(1 - LEVEL)
    return change, float(interval.low), float(interval.high)


def sentence(row: Row, one: Side, other: Side) -> str:
    """What each study said of a method, whether they agree, and how its mean changed.

    Args:
        row: of `compare`.
        one, other: the studies.
    """
    where = f"{row['title']} on {row['problem_title']}"
    if row["obstacle"]:
        return f"{where}: not comparable, {row['obstacle']}."
    if row["verdict_one"] == "baseline":
        return f"{where} is the baseline of both. {_change(row)}".strip()
    said = [_said(row, side, study.label) for side, study in zip(SIDES, (one, other), strict=True)]
    return f"{where}: {'; '.join(said)}. {_AGREEMENT[row['agreement']]} {_change(row)}".strip()


def only_one(one: StudyFrames, other: StudyFrames) -> dict[str, list[str]]:
    """Problems and methods of the first study that the other does not have, as titles."""
    return {
        "problems": [str(one.problem(name)["title"]) for name in one.problems if name not in other.problems],
        "methods": [str(one.method(label)["title"]) for label in one.methods if label not in other.methods],
    }


def differences(one: StudyFrames, other: StudyFrames) -> pd.DataFrame:
    """In what the circumstances of two studies differ: where, what, one, other (text, "–" where there is nothing).

    Study files, versions, machines, engines, and the facts of problems and methods that both have.
    """
    facts = [_facts(study, against) for study, against in ((one, other), (other, one))]
    keys = dict.fromkeys([*facts[0], *facts[1]])
    rows = [(*key, *(found.get(key, "–") for found in facts)) for key in keys]
    return pd.DataFrame([row for row in rows if row[2] != row[3]], columns=["where", "what", *SIDES])


_AGREEMENT = {
    "agree": "They agree.",
    "open": "Neither contradicts the other.",
    "differ": "They differ.",
    "contradict": "They contradict each other.",
    "none": "There are no two verdicts to set against each other.",
}


def _said(row: Row, side: str, label: str) -> str:
    """A study's verdict with its difference, in a part of a sentence."""
    called, decimals = row[f"verdict_{side}"], int(row["decimals"])
    if called == "no claim":
        return f"{label} makes no claim ({row[f'reason_{side}']})"
    difference, low, high = (number(row[f"{key}_{side}"], decimals, sign=True) for key in ("difference", "low", "high"))
    unit = difference_unit(row)
    return f"{label} says {called} ({f'{difference} {unit}'.rstrip()}, 95 % interval {low} to {high})"


def _change(row: Row) -> str:
    """How the method's mean changed between the studies."""
    decimals, unit = int(row["decimals"]), difference_unit(row)
    if not math.isfinite(row["change"]):
        return ""
    words = f"Its mean changed by {number(row['change'], decimals, sign=True)} {unit}".rstrip()
    if math.isfinite(row["change_low"]):
        low, high = (number(row[key], decimals, sign=True) for key in ("change_low", "change_high"))
        words += f" (95 % Welch interval {low} to {high}, unadjusted)"
    missed = int(row["missed_one"]) + int(row["missed_other"])
    return f"{words}." + (f" {missed} runs that missed the tolerance count as the full budget." if missed else "")


def _rule(frames: StudyFrames, label: str | None) -> str | None:
    return None if label is None else str(frames.method(label)["rule"])


def _values(frames: StudyFrames, problem: str, method: str) -> np.ndarray[Any, Any]:
    """The test metric of every complete block."""
    blocks = frames.blocks[(frames.blocks["problem"] == problem) & (frames.blocks["method"] == method)]
    return np.asarray(blocks["test_metric"], dtype=float)


def _facts(frames: StudyFrames, against: StudyFrames) -> dict[tuple[str, str], str]:
    """(where, what) → its value as text, but for problems and methods that the other study does not have."""
    about = frames.manifest
    problems = [name for name in frames.problems if name in against.problems]
    found = _flat("study file", {key: value for key, value in frames.spec.items() if key not in _LEFT_OUT})
    found |= _flat("software and machine", {key: value for key, value in about.items() if key not in _LEFT_OUT})
    for name in problems:
        found |= _flat(f"problem {name}", {**frames.problem(name), "margin": frames.margin(name)})
        found |= _flat(f"engine for {name}", about.get("engines", {}).get(name, {}))
    for label in frames.methods:
        if label in against.methods:
            method = frames.method(label)
            found |= _flat(f"method {label}", {key: value for key, value in method.items() if key in _METHOD})
            for name in problems:  # ranges may differ between problems
                searched = {**to_stored(frames.space(label, name)), **frames.fixed(label, name)}
                found |= _flat(f"method {label} on {name}", searched)
    return found


_LEFT_OUT = ("name", "description", "problems", "methods", "engines", "key", "origins", "turns")
"""What has a place of its own on the page, or is another in any two studies."""

_METHOD = ("rule", "role", "dimensions", "options", "scope")


def _flat(where: str, values: Mapping[str, Any], before: str = "") -> dict[tuple[str, str], str]:
    """Nested values by their paths: ("method sgd on digits-mlp", "lr high") → "0.5"."""
    found: dict[tuple[str, str], str] = {}
    for key, value in values.items():
        what = f"{before} {key}".strip().replace("_", " ")
        if isinstance(value, Mapping):
            found |= _flat(where, value, what)
        elif value not in (None, "", []):
            found[where, what] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return found
