"""The answer about a problem in one sentence, with its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from relaxbench.analysis.comparison import VERDICTS, Comparison, MethodResult, Verdict
from relaxbench.analysis.obstacles import EVERY_DIVERGED, NONE_REACHED
from relaxbench.analysis.sentences import listed, ratio
from relaxbench.util.text import counted

NOT_YET = "No claim can be made yet."
FEW = 2
"""So many methods without a part are named where nothing is shown of them; the figure names the others."""
NAMED = 3
"""So many whole methods of one verdict are named; more are counted, and the figure names them."""


def headline(results: Sequence[MethodResult]) -> str:
    """Return the shortest true answer about a problem; empty where nothing is compared.

    Args:
        results: of one problem, one per method.
    """
    whole = [result for result in results if result.role == "candidate" and not result.without]
    controls = [result for result in results if result.role == "control" and not result.without]
    lines = [_whole(whole, controls), _parts([result for result in results if result.without])]
    return " ".join(line for line in lines if line)


def _parts(results: Sequence[MethodResult]) -> str:
    """The answer about methods without one of their parts, each against the whole; empty without any."""
    verdicts = {"worse": "worse", "better": "better"} | {other: other for other in VERDICTS}
    groups = {
        verdict: group for verdict in verdicts if (group := [result for result in results if result.verdict == verdict])
    }
    if not groups or set(groups) == {"no claim"}:
        return NOT_YET if groups else ""
    told = []
    for verdict, group in groups.items():
        if verdict == "better":
            ratios = listed(ratio(each.ratio) for each in _comparisons(group))
            told.append(f"{_titles(group)} {'is' if len(group) == 1 else 'are'} better ({ratios} times)")
        else:
            named = verdict == "worse" or len(group) <= FEW
            titles = _titles(group) if named else f"{len(group)} without a part"
            told.append(_others(group, cast(Verdict, verdict), titles))
    return f"Against the whole {'method' if len({r.baseline for r in results}) == 1 else 'methods'}: {', '.join(told)}."


def _whole(candidates: Sequence[MethodResult], controls: Sequence[MethodResult]) -> str:
    """The answer about whole methods; empty where there is none, or nothing to compare with.

    Args:
        candidates: of them it is asked whether they beat the baseline.
        controls: named where they beat it, and no candidate does.
    """
    if not candidates or candidates[0].baseline is None:
        return ""
    baseline = candidates[0].baseline_title
    if any(result.rates for result in candidates):
        rates = [(result.title, result.rates) for result in candidates if result.rates]
        return "; ".join(f"{title}: {rate.different} of {rate.repetitions}" for title, rate in rates)
    groups = {
        verdict: group
        for verdict in VERDICTS
        if (group := [result for result in candidates if result.verdict == verdict])
    }
    if set(groups) == {"no claim"}:
        reasons = {_final(result) for result in candidates}
        if "" in reasons:
            return NOT_YET
        if len(reasons) > 1:
            return "No claim can be made, and more blocks would not change that."
        (reason,) = reasons
        if reason == NONE_REACHED and len(candidates) > 1:
            reason = "no run reached the tolerance"
        if reason == EVERY_DIVERGED:
            whose = _titles(candidates) if len(candidates) <= NAMED else f"all {len(candidates)} methods"
            reason = f"every confirming run of {whose} diverged"
        return f"No claim can be made: {reason}."
    better = groups.pop("better", [])
    told = better or [result for result in controls if result.verdict == "better"]

    def named(group: Sequence[MethodResult]) -> str:
        if len(candidates) == 1 and not told:  # the sentence begins with its name
            return "it"
        return _titles(group) if len(group) <= NAMED else counted(len(group), "method")

    rest = [_others(group, verdict, named(group)) for verdict, group in groups.items()]
    subject = f"{candidates[0].title} is not" if len(candidates) == 1 else "No method is"
    if better and any(result.relaxing for result in candidates) and not any(result.relaxing for result in better):
        subject = "No relaxation method is"
    elif better:
        subject = ""
    first = f"{subject} shown to beat {baseline} here" if subject else ""
    rest += _at_equal_seconds(better)
    if told:
        first = _better(told, baseline, first)
    return f"{first}{'; ' if told else ': '}{', '.join(rest)}." if rest else f"{first}."


def _final(result: MethodResult) -> str:
    """Why there is no claim, where more blocks would not change that; else empty."""
    comparison = result.against("baseline")
    return result.reason if comparison and comparison.history and comparison.history[-1].over else ""


def _better(results: Sequence[MethodResult], baseline: str, without: str = "") -> str:
    """The methods that are better, and whether they beat the best control too.

    Args:
        results: their results.
        baseline: its title.
        without: of which methods this is not shown, where these are not those that were asked about.
    """
    comparisons = _comparisons(results)
    metric = results[0].metric
    lead = f"{without}, but " if without else ""
    if len(results) == 1:
        interval = f"{ratio(comparisons[0].low)} to {ratio(comparisons[0].high)}"
        verb, of = ("does", f"{baseline}'s") if lead else (f"beats {baseline} here", "its")
        words = f"{lead}{_called(results[0])} {verb}: {ratio(comparisons[0].ratio)} times {of} {metric} ({interval})"
    else:
        amounts = zip(results, comparisons, strict=True)
        methods = [f"{_called(result)} ({ratio(comparison.ratio)})" for result, comparison in amounts]
        verb, of = ("do", f"{baseline}'s") if lead else (f"beat {baseline} here", "its")
        words = f"{lead}{listed(methods)} {verb} (times {of} {metric})"
    control = results[0].control_title if results[0].role == "candidate" else ""
    against = [(result, result.against("control")) for result in results]
    beating = [result for result, comparison in against if comparison and comparison.verdict == "better"]
    if not control:
        return words
    if len(beating) == len(results):
        also = "it also beats" if len(results) == 1 else f"{'both' if len(results) == 2 else 'all'} also beat"
        return f"{words}; {also} the best control, {control}"
    if not beating:
        return f"{words}, {'without being' if lead else 'but not'} shown to beat the best control, {control}"
    return f"{words}; the best control, {control}, is beaten by {_titles(beating)} only"


def _called(result: MethodResult) -> str:
    """The name of a method; of a control, that it is one."""
    return f"the control {result.title}" if result.role == "control" else result.title


def _at_equal_seconds(results: Sequence[MethodResult]) -> list[str]:
    """The verdicts at equal seconds of methods that are better at equal gradients, where they are not better too."""
    groups: dict[Verdict, list[MethodResult]] = {}
    for result in results:
        timed = result.against("baseline", "seconds")
        if timed and timed.verdict in ("worse", "equivalent", "undecided"):
            groups.setdefault(timed.verdict, []).append(result)
    return [
        f"at equal seconds {_titles(group)} {'is' if len(group) == 1 else 'are'} {verdict}"
        for verdict, group in groups.items()
    ]


def _others(results: Sequence[MethodResult], verdict: Verdict, titles: str) -> str:
    """The methods of one verdict that is not "better"; `titles` names or counts them."""
    subject = f"{titles} {'is' if len(results) == 1 else 'are'}"
    if verdict == "no claim":
        return f"no claim is made of {titles}"
    if verdict == "equivalent":
        margin = _comparisons(results)[0].margin
        return f"{subject} equivalent within {margin or 'the margin'}"
    comparisons = _comparisons(results)
    if verdict == "worse":
        return f"{subject} worse ({_ratios(comparisons)} times)"
    following = [comparison.following for comparison in comparisons if comparison.following]
    if following:
        return f"{subject} undecided so far (the next look is at {counted(min(following), 'block')})"
    return f"{subject} undecided"


def _comparisons(results: Iterable[MethodResult]) -> list[Comparison]:
    """The comparisons with the baseline at equal gradients."""
    return [comparison for result in results if (comparison := result.against("baseline"))]


def _ratios(comparisons: Sequence[Comparison]) -> str:
    """The ratios of up to `NAMED` methods, or the least and the greatest of more."""
    known = [comparison.ratio for comparison in comparisons]
    return listed(map(ratio, known)) if len(known) <= NAMED else f"{ratio(min(known))} to {ratio(max(known))}"


def _titles(results: Iterable[MethodResult]) -> str:
    return listed(result.title for result in results)
