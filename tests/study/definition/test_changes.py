"""A stored study may grow, and how its results are told may change; nothing on which its verdicts rest may."""

from __future__ import annotations

from typing import Any

import pytest

from relaxbench.study.definition.changes import DECLARED, EXTENDABLE, FREE, STATED, merge
from relaxbench.study.definition.validation import parse

GOOD: dict[str, Any] = {"name": "good", "problems": ["rosenbrock"], "methods": ["sgd", "heat"]}


def stored(**values: Any) -> dict[str, Any]:
    return parse({**GOOD, **values}, "x").model_dump()


def test_an_unchanged_study_goes_on() -> None:
    assert merge(stored(), stored()) == ([], stored())


def test_a_command_without_more_blocks_goes_on_with_those_that_were_requested() -> None:
    assert merge({**stored(), "more_blocks": 4}, stored()) == ([], {**stored(), "more_blocks": 4})
    assert merge({**stored(), "more_blocks": 4}, {**stored(), "more_blocks": 6})[1]["more_blocks"] == 6


@pytest.mark.parametrize("key", ["exploit", "recommend", "repetitions"])
def test_numbers_may_grow_and_not_shrink(key: str) -> None:
    old = {**stored(), key: 5}
    more, less = {**old, key: old[key] + 1}, {**old, key: old[key] - 1}
    assert merge(old, more) == ([], more)
    refused, _ = merge(old, less)
    assert len(refused) == 1 and refused[0].startswith(f"{key}: {old[key]} → {old[key] - 1}")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 3}, "seed: 0 → 3"),
        ({"precision": "bf16"}, "precision: float32 → bf16"),
        ({"budget": 50}, "budget: none → 50 (declared before the study began)"),
        ({"budgets": [50, 60]}, "budgets: none → [50, 60] (declared before the study began)"),
        ({"space": {"lr": [0.1, 1]}}, "space: none → { lr = [0.1, 1.0] } (declared before the study began)"),
        ({"looks": [10, 20, 41]}, "looks: [10, 20, 40] → [10, 20, 41] (declared before the study began)"),
        ({"looks": [10, 20, 40, 80]}, "looks: [10, 20, 40] → [10, 20, 40, 80] (declared before the study began)"),
        ({"trials": 13}, "trials: 12 → 13 (declared before the study began)"),
    ],
)
def test_what_trials_and_verdicts_rest_on_may_not_change(change: dict[str, Any], told: str) -> None:
    assert merge(stored(), stored(**change))[0] == [told]


def test_description_flatness_and_track_may_change_and_what_is_stated_is_checked_elsewhere() -> None:
    new = stored(
        description="new", track={"to": "mlflow"}, controls=["sgd"], flatness=False, margin="10 %", baseline="heat"
    )
    assert merge(stored(), new) == ([], new)
    assert set(FREE) == {"description", "flatness", "track"} and set(STATED) == {"margin", "baseline", "controls"}
    groups = (FREE, STATED, EXTENDABLE, DECLARED)
    assert len({key for group in groups for key in group}) == sum(map(len, groups))


def test_names_are_joined_and_never_lost() -> None:
    refused, merged = merge(stored(), stored(methods=["hj", "sgd"], problems=["rugged-1d"]))
    assert not refused
    assert merged["methods"] == ["sgd", "heat", "hj"] and merged["problems"] == ["rosenbrock", "rugged-1d"]


def test_variants_may_be_added_and_not_changed() -> None:
    one, other = {"rule": "sgd", "fixed": {"lr": 0.1}}, {"rule": "sgd", "fixed": {"lr": 0.2}}
    old = stored(method={"a": one})
    assert merge(old, stored(method={"a": one, "b": other}))[0] == []
    assert set(merge(old, stored(method={"b": other}))[1]["method"]) == {"a", "b"}
    (line,) = merge(old, stored(method={"a": other}))[0]
    assert line.startswith("method.a.") and "0.1" in line and "0.2" in line
    assert merge(old, stored(method={"a": {**one, "space": "wide"}}))[0] == [
        "method.a.space: default → wide (declared before the study began)"
    ]


@pytest.mark.parametrize(
    ("key", "now", "told"),
    [
        ("rule", "heat", "sgd → heat"),
        ("arm", "published", "tuned → published"),
        ("space", "wide", "default → wide"),
        ("fixed", {"lr": 0.2}, "none → { lr = 0.2 }"),
        ("options", {"nesterov": False}, "none → { nesterov = false }"),
    ],
)
def test_what_a_table_declares_may_not_change(key: str, now: object, told: str) -> None:
    one = {"rule": "sgd", "arm": "tuned", "space": "default"}
    (line,) = merge(stored(method={"a": one}), stored(method={"a": {**one, key: now}}))[0]
    assert line == f"method.a.{key}: {told} (declared before the study began)"


@pytest.mark.parametrize(("before", "after"), [({}, {"space": "wide"}), ({"space": "wide"}, {})])
def test_a_table_may_not_appear_or_vanish_with_another_meaning(before: dict[str, Any], after: dict[str, Any]) -> None:
    """A method without a table is one in its default space: an added table is as much a change as another one."""
    tables = [stored(method={"heat": table} if table else {}) for table in (before, after)]
    told = "default → wide" if after else "wide → default"
    (line,) = merge(*tables)[0]
    assert line.startswith(f"method.heat.space: {told}")
    assert merge(stored(), stored(method={"heat": {}}))[0] == []


def test_a_title_of_a_method_may_be_edited() -> None:
    new = stored(method={"heat": {"title": "Smoothed"}})
    assert merge(stored(), new) == ([], new)
    assert merge(new, stored(method={"heat": {"title": "Blurred"}}))[1]["method"]["heat"]["title"] == "Blurred"


def test_several_differences_are_all_told() -> None:
    assert len(merge(stored(), stored(seed=1, budget=5, looks=[9]))[0]) == 3


def test_an_option_that_is_stated_as_the_rule_has_it_anyway_is_no_change() -> None:
    """In an edited file, and the other way round; any other value is one."""
    usual, other = ({"rule": "entropy-sgd", "options": {"restart_momentum": value}} for value in (False, True))
    plain = {"rule": "entropy-sgd", "options": {}}
    for before, after in ((plain, usual), (usual, plain)):
        assert merge(stored(method={"a": before}), stored(method={"a": after}))[0] == []
    assert merge(stored(method={"a": usual}), stored(method={"a": other}))[0] != []
