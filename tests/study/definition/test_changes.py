"""A stored study may grow, and how its results are read may change; nothing else may."""

from __future__ import annotations

from typing import Any

import pytest

from relaxbench.study.definition.changes import EXTENDABLE, FREE, merge
from relaxbench.study.definition.validation import parse

GOOD: dict[str, Any] = {"name": "good", "problems": ["rosenbrock"], "methods": ["sgd", "heat"]}


def stored(**values: Any) -> dict[str, Any]:
    return parse({**GOOD, **values}, "x").model_dump()


def test_an_unchanged_study_goes_on() -> None:
    assert merge(stored(), stored()) == ([], stored())


@pytest.mark.parametrize("key", ["blocks", "trials", "exploit", "recommend"])
def test_numbers_may_grow_and_not_shrink(key: str) -> None:
    old = stored()
    more, less = {**old, key: old[key] + 1}, {**old, key: old[key] - 1}
    assert merge(old, more) == ([], more)
    refused, _ = merge(old, less)
    assert len(refused) == 1 and refused[0].startswith(f"{key}: {old[key]} → {old[key] - 1}")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 3}, "seed: 0 → 3"),
        ({"budget": 50}, "budget: None → 50"),
        ({"space": {"lr": [0.1, 1]}}, "space: {} → {'lr': [0.1, 1.0]}"),
    ],
)
def test_what_trials_depend_on_may_not_change(change: dict[str, Any], told: str) -> None:
    assert merge(stored(), stored(**change))[0] == [told]


def test_how_results_are_read_may_change() -> None:
    new = stored(description="new", controls=["heat"], margin=3.0, baseline="heat", flatness=False)
    assert merge(stored(), new) == ([], new)
    assert set(FREE) == {"description", "controls", "margin", "baseline", "flatness"}
    assert not set(FREE) & set(EXTENDABLE)


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
    assert line.startswith("method.a:") and "0.1" in line and "0.2" in line


def test_blocks_are_fixed_in_a_study_with_repetitions() -> None:
    refused, _ = merge(stored(repetitions=3), stored(repetitions=3, blocks=11))
    assert refused == ["blocks: 10 → 11 (fixed in a study with repetitions)"]
    assert merge(stored(repetitions=3), stored(repetitions=4))[0] == []


def test_several_differences_are_all_told() -> None:
    assert len(merge(stored(), stored(seed=1, budget=5, blocks=9))[0]) == 3
