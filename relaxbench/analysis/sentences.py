"""The answers in words: one sentence per method, never stronger than the statistics behind it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from relaxbench.analysis.comparison import VERDICTS, Comparison, MethodResult, Opponent, Rates
from relaxbench.analysis.paired import LEVEL
from relaxbench.util.text import counted


def number(value: Any, decimals: int = 2, sign: bool = False) -> str:
    """Return a number as text: thousands separated, a true minus sign, "–" where there is no number."""
    if value is None or not math.isfinite(value):
        return "–"
    value = round(float(value), decimals) + 0.0  # no "−0.00"
    return f"{value:{'+' if sign and value else ''},.{decimals}f}".replace("-", "−")


def probability(p: float) -> str:
    """Return a p-value with its relation sign: "= 0.03" or "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"


def listed(names: Iterable[str]) -> str:
    """Return names as a part of a sentence: A, B and C."""
    *first, last = map(str, names)
    return f"{', '.join(first)} and {last}" if first else last


def sentence(result: MethodResult) -> str:
    """Return the answer about a method against the baseline, in plain English."""
    where = f"{result.title} on {result.problem}"
    if result.verdict == "baseline":
        return f"{result.title} is the baseline on {result.problem}. {explanation(result)}"
    if not result.baseline_title:
        return f"{where}: no claim. {explanation(result)}"
    against = f"{result.title} against {result.baseline_title} on {result.problem}"
    if result.rates:
        return f"{against}: called different {explanation(result)}"
    timed = result.against("baseline", "seconds")
    also = f" At equal seconds: {timed.verdict}." if timed and timed.verdict != "no claim" else ""
    return f"{against}: {result.verdict}. {explanation(result)}{also}"


def control_sentence(result: MethodResult) -> str:
    """Return the answer against the best control; empty for methods that are not compared with one."""
    comparison = result.against("control")
    if result.rates or comparison is None:
        return ""
    return f"Against the best control, {comparison.reference_title}: {comparison.verdict}. {evidence(comparison)}"


def seconds_sentence(result: MethodResult, opponent: Opponent = "baseline") -> str:
    """Return the answer at equal seconds; empty where there is no comparison."""
    comparison = result.against(opponent, "seconds")
    if result.rates or comparison is None:
        return ""
    at = f" ({seconds(comparison.read_at)} a run)" if math.isfinite(comparison.read_at) else ""
    words = f"At equal seconds{at} against {comparison.reference_title}: {comparison.verdict}."
    return f"{words} {evidence(comparison, brief=True)}"


def seconds(value: float) -> str:
    """Return a duration as text."""
    return f"{number(value, 3 if value < 0.1 else 2 if value < 10 else 0)} s"


def explanation(result: MethodResult) -> str:
    """Return the part of a sentence after the verdict: how much, how sure, and what prevents a claim."""
    if result.verdict == "baseline":
        return _alone(result)
    if result.rates:
        return _repeated(result.rates)
    comparison = result.against("baseline")
    if comparison is None:
        return f"The study has no baseline to compare with. {_alone(result)}"
    return evidence(comparison)


def evidence(comparison: Comparison, brief: bool = False) -> str:
    """Return what a comparison's verdict rests on: how much, how sure, and what prevents a claim.

    Args:
        comparison: of a method with one opponent.
        brief: how much and how sure only.
    """
    if comparison.verdict == "no claim":
        return " ".join([f"{capital(comparison.reason)}.", *_missed(comparison)])
    verdict, unit, decimals = comparison.verdict, comparison.unit, comparison.decimals
    blocks = counted(comparison.pairs, "block")
    low, high = (number(end, decimals, sign=True) for end in (comparison.low, comparison.high))
    words = [f"{_difference(comparison)} (95 % interval {low} to {high} over {blocks})."]
    if brief:
        return words[0]
    if verdict == "equivalent" and comparison.margin is not None:
        words.append("That is within the stated margin of " + f"±{comparison.margin:g} {unit}".rstrip() + ".")
    if verdict in ("equivalent", "undecided") and comparison.p <= LEVEL:
        words.append(
            f"Alone the difference would count (p {probability(comparison.p)}), but not after Holm's correction "
            f"for {comparison.family} comparisons (p {probability(comparison.p_holm)})."
        )
    if verdict == "undecided" and math.isfinite(comparison.detectable):
        detectable = number(comparison.detectable, decimals)
        words.append(f"At this spread {blocks} can only detect " + f"{detectable} {unit}".rstrip() + " or more.")
    if verdict in ("better", "worse"):
        words += _beyond(comparison)
        if comparison.p_exact > LEVEL:
            words.append(f"The exact permutation test does not confirm it (p {probability(comparison.p_exact)}).")
    return " ".join([*words, *_missed(comparison)])


def _difference(comparison: Comparison) -> str:
    """How much lower or higher; for gradients to a tolerance, how many fewer or more."""
    difference, timed = comparison.difference, comparison.clock == "seconds"
    amount = number(abs(difference), comparison.decimals)
    same = difference == 0
    if comparison.censored:
        if same:
            return f"It takes equally {'long' if timed else 'many gradients'} to the tolerance"
        if timed:
            return f"It takes {amount} s {'less' if difference < 0 else 'more'} to the tolerance"
        noun = "gradient" if amount == "1" else "gradients"
        return f"It takes {amount} {noun} {'fewer' if difference < 0 else 'more'} to the tolerance"
    metric = capital(comparison.metric)
    if same:
        where = "in every block" if comparison.low == comparison.high else "on average"
        return f"{metric} is the same {where}"
    return f"{metric} is {amount} {comparison.unit}".rstrip() + (" lower" if difference < 0 else " higher")


def _beyond(comparison: Comparison) -> list[str]:
    """The interval under other test examples, where it is known."""
    low, high = comparison.beyond_low, comparison.beyond_high
    if not (math.isfinite(low) and math.isfinite(high)):
        return []
    interval = " to ".join(number(end, comparison.decimals, sign=True) for end in (low, high))
    if low < 0 < high:
        return [f"That holds for these test examples: with others too the interval is {interval}."]
    return [f"With other test examples too the interval is {interval}."]


def _missed(comparison: Comparison) -> list[str]:
    """How many runs of a censored metric missed the tolerance: their true number is unknown, and larger."""
    if not comparison.censored or not comparison.missed + comparison.reference_missed:
        return []
    budget = f" of {number(comparison.budget, 0)}" if comparison.budget else ""
    runs = counted(comparison.runs, "run")
    return [
        f"{comparison.missed} of its {runs} and {comparison.reference_missed} of {comparison.reference_title}'s "
        f"missed the tolerance and count as the full budget{budget}, so the true difference is not known exactly."
    ]


def _alone(result: MethodResult) -> str:
    """A method's own result."""
    if not result.blocks:
        return "It has no complete block yet."
    unit = f" {result.unit}" if result.unit and not result.censored else ""
    spread = f" ± {number(result.std, result.decimals)}" if math.isfinite(result.std) else ""
    words = f"{capital(result.metric)} {number(result.mean, result.decimals)}{spread}{unit}"
    words += f" over {counted(result.blocks, 'block')}."
    if result.missed:
        words += f" {result.missed} of {counted(result.blocks, 'run')} missed the tolerance."
    return words


def _repeated(rates: Rates) -> str:
    """The answer of a repeated (A/A) study: rates, not one verdict."""
    if not rates.repetitions:
        return "in none yet: no repetition is complete, so no claim."
    rate, low, high = (f"{100 * share:.1f}" for share in (rates.rate, rates.low, rates.high))
    counts = ", ".join(f"{verdict} {rates.verdicts[verdict]}" for verdict in VERDICTS)
    return (
        f"in {rates.different} of {counted(rates.repetitions, 'repetition')} "
        f"({rate} %, 95 % Wilson interval {low} to {high} %): {counts}."
    )


def capital(text: Any) -> str:
    """Return a text with its first letter in upper case."""
    return str(text)[:1].upper() + str(text)[1:]


def memory(value: float | None) -> str:
    """Return a number of bytes as text; "–" where there is no number."""
    if not finite(value):
        return "–"
    size = float(value or 0)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def setting(value: Any) -> str:
    """Return the value of a hyperparameter as text."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def finite(value: Any) -> bool:
    """Return whether a value is a finite number."""
    return value is not None and not pd.isna(value) and abs(float(value)) != float("inf")
