"""The answer in words: one honest sentence per method, never stronger than the statistics behind it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from relaxbench.analysis.paired import LEVEL
from relaxbench.util.text import counted

Row = Mapping[str, Any]
"""A row of `verdicts` (a pandas Series will do)."""


def number(value: Any, decimals: int = 2, sign: bool = False) -> str:
    """A number for people: thousands separated, a real minus sign, "–" where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    value = round(float(value), decimals) + 0.0  # no "−0.00"
    return f"{value:{'+' if sign and value else ''},.{decimals}f}".replace("-", "−")


def probability(p: float) -> str:
    """A p-value, with its sign of relation: "= 0.03" or "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"


def listed(names: Iterable[str]) -> str:
    """Names in a sentence: A, B and C."""
    *first, last = map(str, names)
    return f"{', '.join(first)} and {last}" if first else last


def difference_unit(row: Row, prefix: str = "") -> str:
    """What differences are counted in: differences of percentages are points."""
    if row["censored"] and prefix.endswith("seconds_"):
        return "s"
    return "points" if row["unit"] == "%" else str(row["unit"] or "")


def sentence(row: Row) -> str:
    """What is known about a method against the baseline, in plain English.

    Args:
        row: a row of `relaxbench.analysis.verdicts`.
    """
    title, problem, called = row["title"], row["problem"], row["verdict"]
    if called == "baseline":
        return f"{title} is the baseline on {problem}. {explanation(row)}"
    if not row["reference_title"]:
        return f"{title} on {problem}: no claim. {explanation(row)}"
    timed = row["seconds_verdict"]
    also = f" At equal seconds: {timed}." if timed not in ("no claim", None) and called != "repeated" else ""
    called = "called different" if called == "repeated" else f"{called}."
    return f"{title} against {row['reference_title']} on {problem}: {called} {explanation(row)}{also}"


def control_sentence(row: Row) -> str:
    """The same against the best control; empty for methods that are not compared with one."""
    if row["verdict"] == "repeated" or not isinstance(row["control_verdict"], str):
        return ""
    called, control = row["control_verdict"], row["control_title"]
    return f"Against the best control, {control}: {called}. {explanation(row, 'control_')}"


def seconds_sentence(row: Row, prefix: str = "") -> str:
    """The comparison at equal seconds; empty where there is none.

    Args:
        row: a row of `relaxbench.analysis.verdicts`.
        prefix: "" for the comparison with the baseline, "control_" with the best control.
    """
    key = prefix + "seconds_"
    if row["verdict"] in ("repeated", "baseline") or not isinstance(row[key + "verdict"], str):
        return ""
    other = row[("control" if prefix else "reference") + "_title"]
    at = f" ({seconds(row[key + 'at'])} a run)" if math.isfinite(float(row[key + "at"])) else ""
    return f"At equal seconds{at} against {other}: {row[key + 'verdict']}. {explanation(row, key, brief=True)}"


def seconds(value: float) -> str:
    """A duration for people."""
    return f"{number(value, 3 if value < 0.1 else 2 if value < 10 else 0)} s"


def timed_metric(row: Row) -> str:
    """What is compared at equal seconds, where no test data have been read."""
    return str(row["metric"]).replace("test", "validation")


def explanation(row: Row, prefix: str = "", brief: bool = False) -> str:
    """The part of a sentence after the verdict: how much, how sure, and what is in the way.

    Args:
        row: a row of `relaxbench.analysis.verdicts`.
        prefix: "" for the comparison with the baseline, "control_" with the best control; "seconds_" and
            "control_seconds_" for the same at equal seconds.
        brief: no more than how much and how sure.
    """
    if row["verdict"] == "baseline":
        return _alone(row)
    if row["verdict"] == "repeated":
        return _repeated(row)
    called, reason = row[prefix + "verdict"], row[prefix + "reason"]
    if called == "no claim" and reason == "no baseline":
        return f"The study has no baseline to compare with. {_alone(row)}"
    if called == "no claim":
        return " ".join([f"{capital(reason)}.", *_missed(row, prefix)])
    blocks = counted(row[prefix + "compared"], "block")
    low, high = (number(row[prefix + end], _decimals(row, prefix), sign=True) for end in ("low", "high"))
    interval = f"95 % interval {low} to {high} over {blocks}"
    words = [f"{_difference(row, prefix)} ({interval})."]
    if brief:
        return words[0]
    unit = difference_unit(row, prefix)
    p, p_holm, p_exact = (float(row[prefix + key]) for key in ("p", "p_holm", "p_exact"))
    if called == "equivalent":
        words.append("That is within the stated margin of " + f"±{float(row['margin']):g} {unit}".rstrip() + ".")
    if called in ("equivalent", "undecided") and p <= LEVEL:
        words.append(
            f"Alone the difference would count (p {probability(p)}), but not after Holm's correction "
            f"for {int(row[prefix + 'family'])} comparisons (p {probability(p_holm)})."
        )
    if called == "undecided" and math.isfinite(float(row[prefix + "detectable"])):
        detectable = number(row[prefix + "detectable"], _decimals(row, prefix))
        words.append(f"At this spread {blocks} can only detect " + f"{detectable} {unit}".rstrip() + " or more.")
    if called in ("better", "worse") and not prefix.endswith("seconds_"):
        words += _beyond(row, prefix)
    if called in ("better", "worse") and p_exact > LEVEL:
        words.append(f"The exact permutation test does not confirm it (p {probability(p_exact)}).")
    return " ".join([*words, *_missed(row, prefix)])


def _difference(row: Row, prefix: str) -> str:
    """How much lower or higher; for gradients to a tolerance, how many fewer or more."""
    difference, timed = float(row[prefix + "difference"]), prefix.endswith("seconds_")
    shown = number(abs(difference), _decimals(row, prefix))
    same = difference == 0
    if row["censored"]:
        if same:
            return f"It takes equally {'long' if timed else 'many gradients'} to the tolerance"
        if timed:
            return f"It takes {shown} s {'less' if difference < 0 else 'more'} to the tolerance"
        noun = "gradient" if shown == "1" else "gradients"
        return f"It takes {shown} {noun} {'fewer' if difference < 0 else 'more'} to the tolerance"
    metric = capital(timed_metric(row) if timed else row["metric"])
    if same:
        where = "in every block" if row[prefix + "low"] == row[prefix + "high"] else "on average"
        return f"{metric} is the same {where}"
    return f"{metric} is {shown} {difference_unit(row)}".rstrip() + (" lower" if difference < 0 else " higher")


def _beyond(row: Row, prefix: str) -> list[str]:
    """What may be said of other test examples than these, where anything may."""
    low, high = (float(row[prefix + "beyond_" + end]) for end in ("low", "high"))
    if not (math.isfinite(low) and math.isfinite(high)):
        return []
    shown = " to ".join(number(end, _decimals(row, prefix), sign=True) for end in (low, high))
    if low < 0 < high:
        return [f"That holds for these test examples: with others too the interval is {shown}."]
    return [f"With other test examples too the interval is {shown}."]


def _missed(row: Row, prefix: str) -> list[str]:
    """How many runs of a censored metric never arrived: their true number is unknown, and larger."""
    theirs = row.get(prefix.replace("seconds_", "") + "reference_missed")
    ours, theirs = int(row["missed"]), int(theirs) if theirs == theirs and theirs is not None else 0
    if not row["censored"] or not ours + theirs:
        return []
    other = row[("control" if prefix.startswith("control") else "reference") + "_title"]
    budget = f" of {number(row['budget'], 0)}" if row["budget"] else ""
    return [
        f"{ours} of its {counted(row['blocks'], 'run')} and {theirs} of {other}'s missed the tolerance "
        f"and count as the full budget{budget}, so the true difference is not known exactly."
    ]


def _alone(row: Row) -> str:
    """A method's own result."""
    if not row["blocks"]:
        return "It has no complete block yet."
    unit = f" {row['unit']}" if row["unit"] and not row["censored"] else ""
    spread = f" ± {number(row['std'], int(row['decimals']))}" if math.isfinite(float(row["std"])) else ""
    words = f"{capital(row['metric'])} {number(row['mean'], int(row['decimals']))}{spread}{unit}"
    words += f" over {counted(row['blocks'], 'block')}."
    if row["missed"]:
        words += f" {int(row['missed'])} of {counted(row['blocks'], 'run')} missed the tolerance."
    return words


def _repeated(row: Row) -> str:
    """The answer of a repeated (A/A) study: rates, not one verdict."""
    total = int(row["repeated"])
    if not total:
        return "in none yet: no repetition is complete, so no claim."
    different = int(row["called_different"])
    rate, low, high = (f"{100 * float(row[key]):.1f}" for key in ("rate", "rate_low", "rate_high"))
    return (
        f"in {different} of {counted(total, 'repetition')} "
        f"({rate} %, 95 % Wilson interval {low} to {high} %): better {int(row['called_better'])}, "
        f"worse {int(row['called_worse'])}, equivalent {int(row['called_equivalent'])}, "
        f"undecided {int(row['called_undecided'])}, no claim {int(row['called_no_claim'])}."
    )


def _decimals(row: Row, prefix: str) -> int:
    return int(row["seconds_decimals" if prefix.endswith("seconds_") else "decimals"])


def capital(text: Any) -> str:
    """The first letter upper-case, the others as they are."""
    return str(text)[:1].upper() + str(text)[1:]


def memory(value: float | None) -> str:
    """Bytes for people."""
    if not finite(value):
        return "–"
    size = float(value or 0)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def setting(value: Any) -> str:
    """A hyperparameter's value."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def finite(value: Any) -> bool:
    """Whether there is a number."""
    return value is not None and not pd.isna(value) and abs(float(value)) != float("inf")
