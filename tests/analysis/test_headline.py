"""The headline: every combination of verdicts gives one sentence that says of each method what the table says."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import pytest

from relaxbench.analysis.comparison import VERDICTS, Comparison, MethodResult, Rates, Verdict
from relaxbench.analysis.headline import headline
from relaxbench.analysis.simultaneous import Judgement

RATIO: dict[Verdict, float] = {
    "better": 0.6,
    "worse": 1.4,
    "equivalent": 1.01,
    "undecided": 1.1,
    "no claim": float("nan"),
}
NAMES = ("Alpha", "Beta", "Gamma")
JOINED = {1: "{}", 2: "{} and {}", 3: "{}, {} and {}"}
SAYS = {
    "worse": "{} {is_} worse",
    "equivalent": "{} {is_} equivalent within 10 %",
    "undecided": "{} {is_} undecided",
    "no claim": "no claim is made of {}",
}


def candidate(
    title: str, verdict: Verdict, control: Verdict | None = None, seconds: Verdict = "better"
) -> MethodResult:
    """A candidate with its verdicts against SGD and, where there is one, the best control."""
    ratio = RATIO[verdict]
    gradients = Comparison(
        problem="digits",
        method=title,
        opponent="baseline",
        clock="gradients",
        reference="sgd",
        reference_title="SGD",
        metric="test error",
        unit="%",
        censored=False,
        decimals=2,
        margin="10 %",
        verdict=verdict,
        ratio=ratio,
        low=ratio - 0.08,
        high=ratio + 0.08,
    )
    comparisons = [gradients, replace(gradients, clock="seconds", verdict=seconds)]
    if control:
        comparisons.append(replace(gradients, opponent="control", reference_title="Lookahead", verdict=control))
    return MethodResult(
        problem="digits",
        problem_title="Digits",
        method=title,
        title=title,
        role="candidate",
        metric="test error",
        unit="%",
        censored=False,
        budget=600,
        margin="10 %",
        base="digits",
        rung=None,
        arm="tuned",
        space="default",
        dimensions=4,
        settings="",
        borrowed=False,
        repetitions=1,
        looks=(10,),
        protocol=2,
        trials=12,
        sampler="random",
        blocks=10,
        planned=10,
        level=4.0,
        mean=4.0,
        std=0.5,
        gradients=600.0,
        seconds=1.0,
        cost_spread=0.01,
        peak_bytes=1e6,
        outer_steps=float("nan"),
        explored=10,
        diverged=0,
        confirmed=40,
        confirm_diverged=0,
        missed=0,
        baseline="sgd",
        baseline_title="SGD",
        control="lookahead" if control else None,
        control_title="Lookahead" if control else "",
        decimals=2,
        comparisons=tuple(comparisons),
    )


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
    each = [f"{name} (0.60)" for name in better]
    assert text.startswith(
        f"{JOINED[len(each)].format(*each)} beat SGD here (times its test error)"
        if len(each) > 1
        else f"{better[0]} beats SGD here: 0.60 times its test error (0.52 to 0.68)"
        if each
        else "No method is shown to beat SGD here: "
    )
    for verdict, names in groups.items():
        joined = JOINED[len(names)].format(*names)
        assert text.count(SAYS[verdict].format(joined, is_="is" if len(names) == 1 else "are")) == 1
    assert all(text.count(name) == 1 for name in NAMES[: len(called)])  # nobody is spoken of twice


def test_one_candidate() -> None:
    assert text_of("better") == "Alpha beats SGD here: 0.60 times its test error (0.52 to 0.68)."
    assert text_of("worse") == "Alpha is not shown to beat SGD here: it is worse (1.40 times)."
    assert text_of("undecided") == "Alpha is not shown to beat SGD here: it is undecided."
    assert text_of("no claim") == "No claim can be made yet."


def test_many_methods_of_one_verdict_are_counted() -> None:
    results = [candidate(f"M{number}", "worse") for number in range(5)]
    results = [
        replace(each, comparisons=(replace(each.comparisons[0], ratio=1.2 + place / 10), *each.comparisons[1:]))
        for place, each in enumerate(results)
    ]
    text = headline([*results, candidate("Alpha", "equivalent"), *[candidate("B", "undecided")] * 4])
    assert text == (
        "No method is shown to beat SGD here: 5 methods are worse (1.20 to 1.60 times), "
        "Alpha is equivalent within 10 %, 4 methods are undecided."
    )
    assert headline([candidate("A", "better"), *[candidate("B", "no claim")] * 4]).endswith(
        "(0.52 to 0.68); no claim is made of 4 methods."
    )


def test_where_other_methods_alone_are_better_the_answer_about_relaxation_comes_first() -> None:
    relaxing = replace(candidate("Entropy-SGD", "undecided"), relaxing=True)
    lead = "No relaxation method is shown to beat SGD here, but "
    assert headline([candidate("AdamW", "better", "undecided"), relaxing]) == (
        f"{lead}AdamW does: 0.60 times SGD's test error (0.52 to 0.68), without being shown to beat the best "
        "control, Lookahead; Entropy-SGD is undecided."
    )
    assert headline([candidate("AdamW", "better"), candidate("Muon", "better"), relaxing]) == (
        f"{lead}AdamW (0.60) and Muon (0.60) do (times SGD's test error); Entropy-SGD is undecided."
    )
    both = [candidate("AdamW", "better"), replace(candidate("HJ", "better"), relaxing=True)]
    assert headline(both) == "AdamW (0.60) and HJ (0.60) beat SGD here (times its test error)."
    assert headline([candidate("AdamW", "better"), candidate("SAM", "worse")]).startswith("AdamW beats SGD here")


def test_controls_that_alone_beat_the_baseline_are_named() -> None:
    ema, lookahead = (replace(candidate(name, "better"), role="control") for name in ("SGD with EMA", "Lookahead"))
    others = [candidate("Alpha", "worse"), candidate("Beta", "undecided")]
    assert headline([ema, *others]) == (
        "No method is shown to beat SGD here, but the control SGD with EMA does: 0.60 times SGD's test error (0.52 to "
        "0.68); Alpha is worse (1.40 times), Beta is undecided."
    )
    assert headline([ema, lookahead, *others]).startswith(
        "No method is shown to beat SGD here, but the control SGD with EMA (0.60) and the control Lookahead (0.60) do "
        "(times SGD's test error); Alpha"
    )
    assert headline([ema, candidate("Alpha", "undecided")]).startswith("Alpha is not shown to beat SGD here, but the ")
    assert "EMA" not in headline([ema, candidate("Alpha", "better")])
    weak = replace(candidate("SGD with EMA", "worse"), role="control")
    assert headline([weak, *others]) == headline(others)
    parts = replace(candidate("SGD with EMA", "better"), role="control", without="averaging")
    assert headline([parts, *others]).startswith("No method is shown to beat SGD here: ")


def test_an_undecided_method_goes_on() -> None:
    result = candidate("Alpha", "undecided")
    going = replace(result, comparisons=(replace(result.comparisons[0], following=20),))
    text = "Alpha is not shown to beat SGD here: it is undecided so far (the next look is at 20 blocks)."
    assert headline([going]) == text


@pytest.mark.parametrize("against", list(itertools.product(VERDICTS, repeat=2)))
def test_the_best_control_is_beaten_by_those_alone_that_beat_it(against: tuple[Verdict, Verdict]) -> None:
    text = headline([candidate(name, "better", called) for name, called in zip(NAMES, against, strict=False)])
    beat = [name for name, called in zip(("Alpha", "Beta"), against, strict=True) if called == "better"]
    ends = {
        2: "; both also beat the best control, Lookahead.",
        0: ", but not shown to beat the best control, Lookahead.",
        1: f"; the best control, Lookahead, is beaten by {''.join(beat)} only.",
    }
    assert text.endswith(ends[len(beat)])


def test_who_is_better_at_equal_gradients_alone_is_said() -> None:
    seconds: tuple[Verdict, ...] = ("worse", "better", "worse")
    results = [candidate(name, "better", seconds=called) for name, called in zip(NAMES, seconds, strict=True)]
    assert headline(results).endswith(
        "beat SGD here (times its test error); at equal seconds Alpha and Gamma are worse."
    )
    results = [
        candidate("Alpha", "better", seconds="undecided"),
        candidate("Beta", "worse", seconds="worse"),
    ]
    assert headline(results).endswith("; Beta is worse (1.40 times), at equal seconds Alpha is undecided.")
    assert "equal seconds" not in headline([candidate("Alpha", "better")])


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("every confirming run diverged", "every confirming run of Alpha and Beta diverged"),
        ("every confirming run of SGD diverged", "every confirming run of SGD diverged"),
    ],
)
def test_it_says_whose_runs_diverged(reason: str, told: str) -> None:
    over = (Judgement("no claim", 0.0, obstacle="diverged"),)
    results = []
    for each in (candidate("Alpha", "no claim"), candidate("Beta", "no claim")):
        gradients, *others = each.comparisons
        results.append(replace(each, comparisons=(replace(gradients, reason=reason, history=over), *others)))
    assert headline(results) == f"No claim can be made: {told}."


@pytest.mark.parametrize(
    ("reasons", "told"),
    [
        (("no run of either reached the tolerance",) * 2, "No claim can be made: no run reached the tolerance."),
        (("no run of either reached the tolerance",), "No claim can be made: no run of either reached the tolerance."),
        (
            ("every confirming run diverged", "every confirming run of SGD diverged"),
            "No claim can be made, and more blocks would not change that.",
        ),
        (("every confirming run diverged", ""), "No claim can be made yet."),
    ],
)
def test_what_is_final_is_not_called_early(reasons: tuple[str, ...], told: str) -> None:
    results = []
    for name, reason in zip(NAMES, reasons, strict=False):
        gradients, *others = (one := candidate(name, "no claim")).comparisons
        history = (Judgement("no claim", 0.0, obstacle="diverged"),) if reason else ()
        results.append(replace(one, comparisons=(replace(gradients, reason=reason, history=history), *others)))
    assert headline(results) == told


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
