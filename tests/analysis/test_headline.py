"""The headline: every combination of verdicts gives one sentence that says of each method what the table says."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import pytest

from relaxbench.analysis.comparison import VERDICTS, Comparison, MethodResult, Rates, Verdict
from relaxbench.analysis.headline import headline

DIFFERENCE: dict[Verdict, float] = {
    "better": -1.5,
    "worse": 1.5,
    "equivalent": 0.1,
    "undecided": 0.4,
    "no claim": float("nan"),
}
NAMES = ("Alpha", "Beta", "Gamma")
JOINED = {1: "{}", 2: "{} and {}", 3: "{}, {} and {}"}
SAYS = {
    "worse": "{} {is_} worse", "equivalent": "{} {is_} equivalent within the margin",
    "undecided": "{} {is_} undecided (",
    "no claim": "no claim is made of {}",
}  # fmt: skip


def candidate(
    title: str, verdict: Verdict, control: Verdict | None = None, seconds: Verdict = "better"
) -> MethodResult:
    """A candidate with its verdicts against SGD and, where there is one, the best control."""
    difference = DIFFERENCE[verdict]
    gradients = Comparison(
        problem="digits", method=title, opponent="baseline", clock="gradients", reference="sgd", reference_title="SGD",
        metric="test error", unit="points", censored=False, decimals=2, pairs=10, verdict=verdict,
        difference=difference, low=difference - 0.25, high=difference + 0.25,
        detectable=0.7 if verdict == "undecided" else 0.5,
    )  # fmt: skip
    comparisons = [gradients, replace(gradients, clock="seconds", verdict=seconds)]
    if control:
        comparisons.append(replace(gradients, opponent="control", reference_title="Lookahead", verdict=control))
    return MethodResult(
        problem="digits", problem_title="Digits", method=title, title=title, role="candidate", metric="test error",
        unit="%", censored=False, budget=600, margin=None, repetitions=1, blocks=10, planned=10, mean=4.0, std=0.5,
        gradients=600.0, seconds=1.0, peak_bytes=1e6, explored=10, diverged=0, confirm_diverged=0, missed=0,
        baseline="sgd", baseline_title="SGD", control="lookahead" if control else None,
        control_title="Lookahead" if control else "", decimals=2, comparisons=tuple(comparisons),
    )  # fmt: skip


def text_of(*verdicts: Verdict) -> str:
    return headline([candidate(name, verdict) for name, verdict in zip(NAMES, verdicts, strict=False)])


@pytest.mark.parametrize("called", [*itertools.product(VERDICTS, repeat=3), *itertools.product(VERDICTS, repeat=2)])
def test_every_combination(called: tuple[Verdict, ...]) -> None:
    text = text_of(*called)
    assert text.count(". ") == 0 and text.endswith(".") and text[0].isupper() and "  " not in text
    if set(called) == {"no claim"}:
        assert text == "No claim can be made yet."
        return
    groups = {
        verdict: [name for name, each in zip(NAMES, called, strict=False) if each == verdict] for verdict in called
    }
    better = groups.pop("better", [])
    each = [f"{name} (by 1.50 points of test error)" for name in better]
    assert text.startswith(
        f"{JOINED[len(each)].format(*each)} beat SGD here" if len(each) > 1
        else f"{better[0]} beats SGD here by 1.50 points of test error (95 % interval" if each
        else "No method is shown to beat SGD here: "
    )  # fmt: skip
    for verdict, names in groups.items():
        joined = JOINED[len(names)].format(*names)
        assert text.count(SAYS[verdict].format(joined, is_="is" if len(names) == 1 else "are")) == 1
    assert all(text.count(name) == 1 for name in NAMES[: len(called)])  # nobody is spoken of twice


def test_one_candidate() -> None:
    assert text_of("better") == "Alpha beats SGD here by 1.50 points of test error (95 % interval 1.25 to 1.75)."
    assert text_of("worse") == "Alpha is not shown to beat SGD here: Alpha is worse."
    text = "Alpha is not shown to beat SGD here: Alpha is undecided (10 blocks can only detect 0.70 points or more)."
    assert text_of("undecided") == text and text_of("no claim") == "No claim can be made yet."


@pytest.mark.parametrize("against", list(itertools.product(VERDICTS, repeat=2)))
def test_the_best_control_is_beaten_by_those_alone_that_beat_it(against: tuple[Verdict, Verdict]) -> None:
    text = headline([candidate(name, "better", called) for name, called in zip(NAMES, against, strict=False)])
    beat = [name for name, called in zip(("Alpha", "Beta"), against, strict=True) if called == "better"]
    ends = {
        2: ", and the best control, Lookahead, too.", 0: ", but not shown to beat the best control, Lookahead.",
        1: f"; the best control, Lookahead, is beaten by {''.join(beat)} only.",
    }  # fmt: skip
    assert text.endswith(ends[len(beat)])


def test_who_is_better_at_equal_gradients_alone_is_said() -> None:
    seconds: tuple[Verdict, ...] = ("worse", "better", "worse")
    results = [candidate(name, "better", seconds=called) for name, called in zip(NAMES, seconds, strict=True)]
    assert headline(results).endswith("beat SGD here; at equal seconds Alpha and Gamma are worse.")
    results = [
        candidate("Alpha", "better", seconds="undecided"),
        candidate("Beta", "worse", seconds="worse"),
    ]
    assert headline(results).endswith("; Beta is worse, at equal seconds Alpha is undecided.")
    assert "equal seconds" not in headline([candidate("Alpha", "better")])


def test_gradients_to_a_tolerance_are_counted() -> None:
    result = candidate("Alpha", "better")
    counts = replace(
        result.comparisons[0], unit="gradients", censored=True, decimals=0, difference=-120.0, low=-200.0, high=-40.0
    )
    result = replace(result, comparisons=(counts,))
    assert headline([result]) == "Alpha beats SGD here by 120 gradients (95 % interval 40 to 200)."


def test_nothing_to_compare() -> None:
    result = candidate("Alpha", "better")
    assert headline([replace(result, role="control")]) == headline([]) == ""
    assert headline([replace(result, baseline=None, baseline_title="")]) == ""


def test_repeated_studies_tell_a_rate() -> None:
    results = [
        replace(candidate(name, "undecided"), rates=Rates(40, count, count / 40, 0.0, 0.2, Counter()))
        for name, count in (("Alpha", 1), ("Beta", 3))
    ]
    assert headline(results) == "Alpha: 1 of 40; Beta: 3 of 40"
