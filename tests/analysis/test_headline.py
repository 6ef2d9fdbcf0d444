"""The headline: every combination of verdicts gives one sentence that says of each method what the table says."""

from __future__ import annotations

import itertools

import pandas as pd
import pytest

from relaxbench.analysis.headline import headline

TITLES, BASELINE = {"sgd": "SGD", "a": "Alpha", "b": "Beta", "c": "Gamma"}, "sgd"
VERDICTS = ("better", "worse", "equivalent", "undecided", "no claim")
DIFFERENCE = {"better": -1.5, "worse": 1.5, "equivalent": 0.1, "undecided": 0.4, "no claim": float("nan")}
NAMES = ("Alpha", "Beta", "Gamma")
JOINED = {1: "{}", 2: "{} and {}", 3: "{}, {} and {}"}
SAYS = {
    "worse": "{} {is_} worse", "equivalent": "{} {is_} equivalent within the margin",
    "undecided": "{} {is_} undecided (",
    "no claim": "no claim is made of {}",
}  # fmt: skip


def row(title: str, verdict: str, control: str = "") -> dict[str, object]:
    """A candidate of the verdict table; `control` is its verdict against the best control, empty without one."""
    difference = DIFFERENCE[verdict]
    return {
        "role": "candidate", "title": title, "verdict": verdict, "difference": difference, "low": difference - 0.25,
        "high": difference + 0.25, "decimals": 2, "unit": "%", "metric": "test error", "censored": False,
        "detectable": 0.7 if verdict == "undecided" else 0.5, "compared": 10, "control_verdict": control or None,
        "control_title": "Lookahead" if control else "", "seconds_verdict": "better",
    }  # fmt: skip


def told(*called: str) -> str:
    return headline(
        pd.DataFrame([row(name, verdict) for name, verdict in zip(NAMES, called, strict=False)]), TITLES, BASELINE
    )


@pytest.mark.parametrize("called", [*itertools.product(VERDICTS, repeat=3), *itertools.product(VERDICTS, repeat=2)])
def test_every_combination(called: tuple[str, ...]) -> None:
    text = told(*called)
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
    assert told("better") == "Alpha beats SGD here by 1.50 points of test error (95 % interval 1.25 to 1.75)."
    assert told("worse") == "Alpha is not shown to beat SGD here: Alpha is worse."
    text = "Alpha is not shown to beat SGD here: Alpha is undecided (10 blocks can only detect 0.70 points or more)."
    assert told("undecided") == text and told("no claim") == "No claim can be made yet."


@pytest.mark.parametrize("against", list(itertools.product(VERDICTS, repeat=2)))
def test_the_best_control_is_beaten_by_those_alone_that_beat_it(against: tuple[str, str]) -> None:
    rows = [row(name, "better", called) for name, called in zip(("Alpha", "Beta"), against, strict=True)]
    text = headline(pd.DataFrame(rows), TITLES, BASELINE)
    beat = [name for name, called in zip(("Alpha", "Beta"), against, strict=True) if called == "better"]
    ends = {
        2: ", and the best control, Lookahead, too.", 0: ", but not shown to beat the best control, Lookahead.",
        1: f"; the best control, Lookahead, is beaten by {''.join(beat)} only.",
    }  # fmt: skip
    assert text.endswith(ends[len(beat)])


def test_who_is_better_at_equal_gradients_alone_is_said() -> None:
    seconds = zip(NAMES, ("worse", "better", "worse"), strict=True)
    rows = [row(name, "better") | {"seconds_verdict": called} for name, called in seconds]
    assert headline(pd.DataFrame(rows), TITLES, BASELINE).endswith(
        "beat SGD here; at equal seconds Alpha and Gamma are worse."
    )
    rows = [
        row("Alpha", "better") | {"seconds_verdict": "undecided"},
        row("Beta", "worse") | {"seconds_verdict": "worse"},
    ]
    assert headline(pd.DataFrame(rows), TITLES, BASELINE).endswith(
        "; Beta is worse, at equal seconds Alpha is undecided."
    )
    assert "equal seconds" not in headline(pd.DataFrame([row("Alpha", "better")]), TITLES, BASELINE)


def test_gradients_to_a_tolerance_are_counted() -> None:
    rows = pd.DataFrame([row("Alpha", "better") | {"unit": "gradients", "censored": True, "decimals": 0,
                                                   "difference": -120.0, "low": -200.0, "high": -40.0}])  # fmt: skip
    assert headline(rows, TITLES, BASELINE) == "Alpha beats SGD here by 120 gradients (95 % interval 40 to 200)."


def test_nothing_to_compare() -> None:
    rows = pd.DataFrame([row("Alpha", "better")])
    assert headline(rows[rows["role"] == "control"], TITLES, BASELINE) == ""
    assert headline(rows, TITLES, None) == ""


def test_repeated_studies_tell_a_rate() -> None:
    rows = pd.DataFrame([
        row(name, "undecided") | {"verdict": "repeated", "called_different": count, "repeated": 40}
        for name, count in (("Alpha", 1), ("Beta", 3))
    ])  # fmt: skip
    assert headline(rows, TITLES, BASELINE) == "Alpha: 1 of 40; Beta: 3 of 40"
