"""The answers in words: one sentence per method, never stronger than the statistics behind it."""

from __future__ import annotations

import math
from collections.abc import Iterable

from relaxbench.analysis.comparison import FARTHEST, SHORT, VERDICTS, Comparison, MethodResult, Rates
from relaxbench.analysis.simultaneous import LEVEL
from relaxbench.util.text import before_a_number, counted, percent, scientific

FINEST, LARGE = 6, 1e12
"""The most decimals of a number, and the least number that is too long for digits."""


def decimals_of(value: float, digits: int = 2) -> int:
    """Return how many decimals show so many digits of a positive number; negative for a large one."""
    return digits - 1 - math.floor(math.log10(value))


def number(value: float | None, decimals: int = 2, sign: bool = False) -> str:
    """Return a number as text: thousands separated, a true minus sign, "–" where there is no number.

    A very large one has a power of ten; so has one of which `FINEST` decimals would show less than two digits. A
    positive one that is no difference is never shown as zero: it has two digits then.
    """
    if value is None or not math.isfinite(value):
        return "–"
    if not sign and value > 0 and round(float(value), decimals) == 0:
        decimals = min(decimals_of(value), FINEST)
    if abs(value) >= LARGE or (decimals >= FINEST and 0 < abs(value) < 10.0 ** (1 - decimals)):
        return ("+" if sign and value > 0 else "") + scientific(value)
    value = round(float(value), decimals) + 0.0  # no "−0.00"
    return f"{value:{'+' if sign and value else ''},.{decimals}f}".replace("-", "−")


def ratio(value: float | None) -> str:
    """Return a ratio as text: two decimals or two digits, and more where it would be rounded to 1."""
    if value is None or not math.isfinite(value) or value <= 0:
        return "–"
    decimals = 2 if value < 10 else 1 if value < 100 else 0
    decimals = max(decimals, decimals_of(value))
    while value != 1 and round(value, decimals) == 1 and decimals < 9:
        decimals += 1
    return number(value, decimals)


MOST = 0.8
"""Share of runs that miss a tolerance from which more blocks tell little."""


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
    return " ".join([f"{against}: {result.verdict}. {explanation(result)}", *_tested(result)])


def sentences(results: Iterable[MethodResult]) -> list[str]:
    """Return the answer about every method, in order; methods without a claim for the same reason share a sentence."""
    groups: dict[tuple[str, ...], list[MethodResult]] = {}
    for result in results:
        comparison = result.against("baseline")
        # What is said of runs that missed a tolerance is of "its" runs, and those "of both".
        shared = result.verdict == "no claim" and comparison and not _missed(comparison) and not result.rates
        reason = (result.baseline_title, explanation(result)) if shared else (result.method,)
        groups.setdefault((result.problem, *reason), []).append(result)
    return [_together(group) if len(group) > 1 else sentence(group[0]) for group in groups.values()]


def explanation(result: MethodResult) -> str:
    """Return the part of a sentence after the verdict: how much, how sure, and what prevents a claim."""
    if result.verdict == "baseline":
        return _alone(result)
    if result.rates:
        return _repeated(result.rates)
    comparison = result.against("baseline")
    if comparison is None:
        return f"The study has no baseline to compare with. {_alone(result)}"
    short = [short_budget(result)] if result.short and comparison.verdict != "no claim" else []
    return " ".join([evidence(comparison), *short])


def evidence(comparison: Comparison) -> str:
    """Return the evidence for a primary comparison's verdict: how much, how sure, and what would change it."""
    if comparison.verdict == "no claim":
        advice = [comparison.advice] if comparison.advice else []
        return " ".join([f"{capital(comparison.reason)}.", *advice, *_missed(comparison)])
    words = [f"{capital(amount(comparison))}.", look(comparison), prospect(comparison)]
    failed = comparison.disasters is not None and comparison.disasters.count > 0
    limits = comparison.verdict == "better" or (comparison.verdict == "equivalent" and failed)
    words += [_disasters(comparison)] if limits else []
    return " ".join([*(word for word in words if word), *_missed(comparison), *_beyond(comparison)])


def amount(comparison: Comparison) -> str:
    """Return the ratio with its interval, and the difference at the opponent's level beside it."""
    words = f"{ratio(comparison.ratio)} times {_whose(comparison)} {comparison.metric}"
    if comparison.claimed:
        words += f", {ratio(comparison.low)} to {ratio(comparison.high)} {scope(comparison)}"
    return f"{words} ({at_level(comparison)})"


def at_level(comparison: Comparison) -> str:
    """Return the difference of the metric at the opponent's level: "+0.05 points at SGD's 2.40 %"."""
    decimals = comparison.decimals
    if comparison.unit == "s":
        decimals = 0 if comparison.reference_level >= 100 else 2 if comparison.reference_level >= 0.1 else 4
    points = f"{number(comparison.points, decimals, sign=True)} {comparison.difference_unit}".rstrip()
    unit = "" if comparison.censored and comparison.unit != "s" else comparison.unit
    level = f"{number(comparison.reference_level, decimals)} {unit}".rstrip()
    return f"{points} at {_whose(comparison)} {level}"


def scope(comparison: Comparison) -> str:
    """Return for how much at once an interval holds with probability 95 %."""
    looks = f" and {counted(comparison.looks, 'look')}" if comparison.looks > 1 else ""
    if comparison.opponent != "baseline" or comparison.clock != "gradients":
        return "at the same level"
    if comparison.family > 1:
        return f"at once for all {comparison.family:,} comparisons{looks}"
    return f"at once for all {counted(comparison.looks, 'look')}" if looks else "with 95 % confidence"


def look(comparison: Comparison) -> str:
    """Return at which look a comparison was decided, or how far it has come."""
    at = f"look {comparison.look} of {comparison.looks}"
    if comparison.look > comparison.looks:
        at = f"a look beyond the {comparison.looks} declared"
    blocks = counted(comparison.blocks, "block")
    if comparison.trials:
        blocks += f" of {counted(comparison.trials, 'trial')}"
    if comparison.verdict != "undecided":
        return f"Decided at {at}, after {blocks}."
    if comparison.following:
        return f"Undecided at {at}, after {blocks}; the next look is at {comparison.following:,} blocks."
    return f"Undecided at {at}, after {blocks}."


def prospect(comparison: Comparison) -> str:
    """Return what would change a verdict; empty where it is not known."""
    if comparison.verdict == "undecided":
        if _mostly_missed(comparison):
            return "Most runs of both missed the tolerance: a larger budget would say more than more blocks."
        if comparison.needed is None:
            most = FARTHEST * comparison.blocks
            return f"More than {most:,} blocks would be needed if ratio and spread stay as they are."
        return f"About {comparison.needed:,} blocks would decide it if ratio and spread stay as they are."
    margin = percent(comparison.smallest_margin)
    if comparison.verdict == "equivalent":
        return f"That is within the margin of {comparison.margin}; the test allows margins down to {margin}."
    if not comparison.margin or not math.isfinite(comparison.smallest_margin):
        return ""
    if comparison.verdict == "worse" and comparison.high < comparison.band_high:
        return f"It is worse by less than the margin of {comparison.margin}."
    if comparison.verdict == "better" and comparison.low > comparison.band_low:
        return f"It is better by less than the margin of {comparison.margin}."
    return ""


def _mostly_missed(comparison: Comparison) -> bool:
    """Whether `MOST` of both methods' runs did not reach the tolerance."""
    sides = ((comparison.missed, comparison.runs), (comparison.reference_missed, comparison.reference_runs))
    return all(missed >= MOST * runs > 0 for missed, runs in sides)


def short_budget(result: MethodResult) -> str:
    """Return the warning of a relaxation rule with few outer steps."""
    steps = f"{number(result.outer_steps, 0)} outer {'step' if round(result.outer_steps) == 1 else 'steps'}"
    return f"Short-budget result: a median of {steps} per run, below {SHORT}."


def control_sentence(result: MethodResult) -> str:
    """Return the answer against the best control; empty for methods that are not compared with one."""
    return _secondary(result, result.against("control"), "Against the best control")


def seconds_sentence(result: MethodResult) -> str:
    """Return the answer at equal seconds; empty where there is no comparison."""
    comparison = result.against("baseline", "seconds")
    at = f" ({seconds(comparison.read_at)} per run)" if comparison and math.isfinite(comparison.read_at) else ""
    return _secondary(result, comparison, f"At equal seconds{at} against")


def longer_sentence(result: MethodResult) -> str:
    """Return the answer against the baseline at the next larger budget; empty without a ladder of budgets."""
    return _secondary(result, result.against("longer"), "Against")


def seconds(value: float) -> str:
    """Return a duration as text."""
    return f"{number(value, 3 if value < 0.1 else 2 if value < 10 else 0)} s"


def capital(text: str) -> str:
    """Return a text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def memory(value: float | None) -> str:
    """Return a number of bytes as text; "–" where there is no number."""
    if value is None or not math.isfinite(value):
        return "–"
    size = float(value)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def setting(value: float | int | str) -> str:
    """Return the value of a hyperparameter as text."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def finite(value: float | None) -> bool:
    """Return whether a value is a finite number."""
    return value is not None and math.isfinite(value)


def _secondary(result: MethodResult, comparison: Comparison | None, start: str) -> str:
    """A secondary comparison: its verdict where it is tested, else the ratio alone."""
    if result.rates or comparison is None:
        return ""
    comma = "," if comparison.opponent == "control" else ""
    start = f"{start}{comma} {comparison.reference_title}".removesuffix(" ")
    missed = "".join(f" {line}" for line in _missed(comparison))
    if comparison.verdict == "no claim":
        return f"{start}: no claim. {capital(comparison.reason)}.{missed}"
    if comparison.verdict == "not tested":
        untested = f"{start}: not tested, as the method is not better than the baseline."
        return f"{untested} Estimate: {amount(comparison)}.{missed}"
    return f"{start}: {comparison.verdict}. {capital(amount(comparison))}.{missed}"


def _tested(result: MethodResult) -> list[str]:
    """The verdicts of the secondary comparisons that were tested, without their numbers."""
    starts = {"control": f"Against the best control, {result.control_title}", "baseline": "At equal seconds"}
    return [
        f"{starts.get(each.opponent, f'Against {each.reference_title}')}: {each.verdict}."
        for each in result.comparisons[1:]
        if each.verdict in VERDICTS and each.verdict != "no claim"
    ]


def _together(group: list[MethodResult]) -> str:
    """The answer about methods that have no claim for the same reason."""
    first, titles = group[0], listed(result.title for result in group)
    return f"{titles} against {first.baseline_title} on {first.problem}: no claim. {explanation(first)}"


def _whose(comparison: Comparison) -> str:
    return "its" if comparison.opponent == "longer" else f"{comparison.reference_title}'s"


def _disasters(comparison: Comparison) -> str:
    """How often the method fails badly, and how often it may at most."""
    failures = comparison.disasters
    if failures is None or not failures.runs:
        return ""
    count = "None" if not failures.count else f"{failures.count:,}"
    were = "were disasters" if failures.count > 1 else "was a disaster"
    return (
        f"{count} of its {counted(failures.runs, 'run')} {were} (above 3 times {comparison.reference_title}'s "
        f"median); {failures.at_most}."
    )


def _missed(comparison: Comparison) -> list[str]:
    """How many runs of a censored metric missed the tolerance: their true number is unknown, and larger."""
    if not comparison.censored or not comparison.missed + comparison.reference_missed:
        return []
    budget = f" of {number(comparison.budget, 0)}" if comparison.budget else ""
    if comparison.clock == "seconds" and comparison.budget:
        budget = f", which takes the cheaper method {seconds(comparison.budget)}"
    runs = counted(comparison.runs, "run")
    theirs = f"{comparison.reference_title}'s"
    theirs += f" {comparison.reference_runs:,}" if comparison.reference_runs else ""
    unknown = "" if comparison.verdict == "no claim" else ", so the true ratio is not known exactly"
    return [
        f"{comparison.missed} of its {runs} and {comparison.reference_missed} of {theirs} missed the tolerance and "
        f"count as the full budget{budget}{unknown}."
    ]


def _beyond(comparison: Comparison) -> list[str]:
    """The guarantee's loss beyond the declared looks."""
    if comparison.look <= comparison.looks:
        return []
    return [
        f"It rests on {counted(comparison.look - comparison.looks, 'look')} beyond the {comparison.looks} declared: "
        f"a wrong verdict in this study has a probability of up to "
        f"{percent(comparison.wrong)}, no longer {percent(LEVEL)}."
    ]


def _alone(result: MethodResult) -> str:
    """A method's own result."""
    if not math.isfinite(result.level):
        none = f"Its {result.metric} has no geometric mean, which needs values above 0."
        return none if result.blocks else "It has no complete look yet."
    unit = f" {result.unit}" if result.unit and not result.censored else ""
    per = f" of {counted(result.trials, 'trial')}" if result.trials else ""
    blocks = f"{counted(result.blocks // result.repetitions, 'block')}{per}"
    words = (
        f"{capital(before_a_number(result.metric))} {number(result.level, result.decimals)}{unit}, the geometric mean"
    )
    if result.repetitions > 1:
        words += f" of the first of {result.repetitions:,} repetitions, which have {blocks} on average."
    else:
        words += f" of {blocks}."
    if result.missed:
        words += f" {result.missed} of {counted(result.confirmed, 'run')} missed the tolerance."
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
