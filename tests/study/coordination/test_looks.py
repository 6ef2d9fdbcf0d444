"""The plan and the report say the same of a comparison: its verdict, its look, and whether it goes on."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import numpy as np
import pytest
from sqlalchemy import Engine, select

from relaxbench.analysis.comparison import Comparison
from relaxbench.analysis.looks import Outcome, fold
from relaxbench.analysis.simultaneous import Judgement
from relaxbench.analysis.verdicts import verdicts
from relaxbench.report import load_study
from relaxbench.store.schema import Study
from relaxbench.study.coordination.looks import Monitor
from tests.synthetic import Writer, manifest, memory, spec

LEVELS = {"sgd": 0.0, "hj": 0.02, "heat": 0.5, "entropy-sgd": -0.5}
METHODS = list(LEVELS)
LOOKS = (6, 9, 12)
KINDS = (
    "usual",
    "close",
    "missing",
    "all missed",
    "sgd missed",
    "one lost",
    "sgd lost",
    "negative",
    "published",
    "parts",
)


def random_study(seed: int, kind: str, problem: str) -> Engine:
    """A study in which some methods have reached some looks, and whose runs fail in a way that the kind names."""
    rng = np.random.default_rng(seed)
    asked = spec(methods=METHODS, problems=[problem], controls=[], looks=list(LOOKS), trials=2, exploit=0, recommend=0)
    asked["margin"] = "50 %"
    if kind == "parts":
        asked["method"] = {"heat": {"against": "hj"}, "entropy-sgd": {"against": "hj"}}
    about = manifest(asked)
    if kind == "published":
        about["methods"]["heat"]["arm"] = "published"
    writer = Writer(memory(), asked, about)
    censored = about["problems"][problem]["censored"]
    worst = about["problems"][problem]["worst_metric"]
    for method in METHODS:
        level, spread = LEVELS[method], 0.5 if kind == "usual" else 0.05
        for block in range(rng.choice(LOOKS)):
            for number in range(1 if about["methods"][method].get("arm") else 2):
                parent = writer.trial(problem, method, "explore", block, number, float(rng.random()))
                lost = (kind, method) in (("one lost", "hj"), ("sgd lost", "sgd"))
                lost |= kind == "usual" and rng.random() < 0.05
                late = kind == "all missed" or (kind, method) == ("sgd missed", "sgd")
                late |= kind == "missing" and rng.random() < 0.2
                metric = float(np.exp(level + spread * rng.standard_normal())) * (1100 if censored else 0.03)
                metric = worst if late and censored else min(metric, worst)
                metric = -1.0 if (kind, method) == ("negative", "heat") and censored and rng.random() < 0.2 else metric
                measures = {"test_metric": None if lost else metric}
                writer.trial(
                    *(problem, method, "confirm", block, number, 0.3),
                    **{"parent": parent, "measures": measures, "diverged": lost},
                )
    return writer.close()


@cache
def both(kind: str, seed: int = 0) -> tuple[Monitor, dict[str, Comparison]]:
    """The monitor of the plan, and the comparisons of the report."""
    problem = "digits-mlp" if kind in ("close", "published", "parts") else "rosenbrock"
    database = random_study(seed, kind, problem)
    with database.connect() as connection:
        row = connection.execute(select(Study.id, Study.spec, Study.manifest)).one()
    found = {each.method: each.against("baseline") for each in verdicts(load_study(database))}
    comparisons = {method: comparison for method, comparison in found.items() if comparison is not None}
    return Monitor.of(database, row.id, problem, row.spec, row.manifest), comparisons


@pytest.mark.parametrize("kind", KINDS)
def test_the_plan_and_the_report_agree(kind: str) -> None:
    monitor, comparisons = both(kind)
    assert set(comparisons) == set(METHODS[1:])
    for method, comparison in comparisons.items():
        assert comparison.reference == ("hj" if kind == "parts" and method != "hj" else "sgd")
        outcome = monitor.outcomes(0)[method]
        if outcome is None:
            assert (comparison.verdict, comparison.look) == ("no claim", 0)
            continue
        assert (comparison.verdict, comparison.look) == (outcome.verdict, outcome.look)
        if outcome.look < len(LOOKS) and (kind, method) != ("parts", "hj"):  # as an opponent it may go on
            assert monitor.goes_on(method, 0, outcome.look - 1) is (comparison.following is not None)


def test_the_studies_are_of_all_kinds() -> None:
    seen = {comparison.verdict for kind in KINDS for comparison in both(kind)[1].values()}
    assert seen == {"better", "worse", "equivalent", "undecided", "no claim"}


@pytest.mark.parametrize(
    ("kind", "method", "told"),
    [
        ("all missed", "hj", "no run of either reached the tolerance"),
        ("one lost", "hj", "every confirming run diverged"),
        ("sgd lost", "hj", "every confirming run of SGD diverged"),
        ("negative", "heat", "is not above 0, so methods have no ratio"),
        ("missing", "hj", "equal only because both stopped at the budget"),
    ],
)
def test_nothing_to_claim_ends_a_comparison(kind: str, method: str, told: str) -> None:
    """More blocks of the same settings and budget would change nothing: the method stops."""
    monitor, comparisons = both(kind)
    comparison = comparisons[method]
    assert comparison.verdict == "no claim" and told in comparison.reason
    assert monitor.goes_on(method, 0, comparison.look - 1) is False


OPEN, OVER = Judgement("undecided", 0.0), Judgement("better", 0.0)
GOING: list[tuple[dict[str, list[Judgement]], int, dict[str, bool | None]]] = [
    ({"hj": [OVER], "heat": [OPEN]}, 0, {"sgd": False, "hj": True, "heat": True}),
    ({"hj": [OPEN], "heat": [OVER]}, 0, {"sgd": True, "hj": True, "heat": False}),
    ({"hj": [OVER], "heat": [OVER]}, 0, {"sgd": False, "hj": False, "heat": False}),
    ({"hj": [OVER], "heat": []}, 0, {"sgd": False, "hj": None, "heat": None}),
    ({"hj": [], "heat": [OVER]}, 0, {"sgd": None, "hj": None, "heat": False}),
    ({"hj": [OVER], "heat": [OPEN, OVER]}, 1, {"hj": False, "heat": False}),
    ({"hj": [OVER], "heat": [OPEN, OPEN]}, 1, {"hj": True, "heat": True}),
]


@pytest.mark.parametrize(("judged", "look", "expected"), GOING)
def test_an_opponent_goes_on_while_a_method_that_is_compared_with_it_does(
    judged: dict[str, list[Judgement]], look: int, expected: dict[str, bool | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """HEAT is compared with HJ, and HJ with SGD."""
    asked = spec(methods=["sgd", "hj", "heat"], controls=[], looks=list(LOOKS), method={"heat": {"against": "hj"}})
    monitor = Monitor.of(memory(), 1, "digits-mlp", cast(Any, asked), cast(Any, manifest(asked)))
    outcomes: dict[str, Outcome | None] = {method: fold(steps) for method, steps in judged.items()}
    monkeypatch.setattr(Monitor, "outcomes", lambda self, repetition: outcomes)
    assert {method: monitor.goes_on(method, 0, look) for method in expected} == expected
