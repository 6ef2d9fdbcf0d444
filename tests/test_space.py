"""One type of range, from the study file to the figure: stored, read back, sampled and drawn the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaxbench.optim.registry import RULES
from relaxbench.problems import problem
from relaxbench.report.figures.search_space import Scale
from relaxbench.space import Choice, Float, Hyperparameter, Int, Space, from_stored, to_stored
from relaxbench.study.coordination.random_search import sample
from relaxbench.study.definition.spaces import Search, space_of

MANIFEST: dict[str, Any] = json.loads((Path(__file__).parent / "space_manifest.json").read_text(encoding="utf-8"))
"""What a study left in its database before this module existed: its specification, spaces and explore trials."""

METHODS = [(method, name) for method in MANIFEST["spec"]["methods"] for name in MANIFEST["spec"]["problems"]]


@st.composite
def hyperparameters(draw: st.DrawFn) -> Hyperparameter:
    kind = draw(st.sampled_from(["float", "log", "int", "choice"]))
    if kind == "choice":
        options = tuple(draw(st.lists(st.text(max_size=5), min_size=1, max_size=5, unique=True)))
        return Choice(options, draw(st.sampled_from(options)))
    if kind == "int":
        low, step, steps = draw(st.integers(1, 50)), draw(st.integers(1, 5)), draw(st.integers(1, 20))
        return Int(low, low + step * steps, low + step * draw(st.integers(0, steps)), step)
    low = draw(st.floats(1e-300 if kind == "log" else 0, 1e3))
    high = draw(st.floats(low, 1e300, exclude_min=True))
    return Float(low, high, draw(st.floats(low, high)), kind == "log", draw(st.booleans()), draw(st.floats(high)))


def ranges(space: dict[str, Hyperparameter]) -> dict[str, Hyperparameter]:
    """A space without what a manifest does not hold."""
    return {
        name: replace(declared, default=declared.options[0])
        if isinstance(declared, Choice)
        else Int(declared.low, declared.high, declared.low, declared.step)
        if isinstance(declared, Int)
        else Float(declared.low, declared.high, declared.low, declared.log)
        for name, declared in space.items()
    }


@given(st.dictionaries(st.text(max_size=8), hyperparameters(), max_size=6))
def test_a_space_survives_the_manifest(space: dict[str, Hyperparameter]) -> None:
    stored = to_stored(space)
    text = json.dumps(stored)
    back = from_stored(json.loads(text))
    assert back == ranges(space) and list(back) == list(space)
    assert json.dumps(to_stored(back)) == text
    for name, declared in back.items():  # numbers keep their kind through JSON
        if not isinstance(declared, Choice):
            assert type(declared.low) is (int if isinstance(declared, Int) else float), name


def searched(method: str, name: str) -> Space:
    """What a method of the old study searched on a problem: everything, because there were no default spaces yet."""
    variant = MANIFEST["spec"]["method"].get(method, {"rule": method, "space": {}, "fixed": {}})
    ranges = {**MANIFEST["spec"]["space"], **variant["space"]}
    search = Search(RULES[variant["rule"]], space="wide", study=ranges, fixed=variant["fixed"])
    return space_of(search, problem(name))


@pytest.mark.parametrize(("method", "name"), METHODS)
def test_an_old_manifest_has_the_ranges_of_its_study_file(method: str, name: str) -> None:
    stored = MANIFEST["methods"][method]["spaces"][name]
    space = searched(method, name)
    assert from_stored(stored) == ranges(dict(space))
    assert json.dumps(to_stored(space)) == json.dumps(stored)  # keys in their order, 1 and 1.0 apart


def test_the_ranges_of_an_old_manifest_give_its_trials_again() -> None:
    assert len(MANIFEST["explore"]) == 2 * 3 * len(METHODS)
    for trial in MANIFEST["explore"]:
        method = MANIFEST["methods"][trial["method"]]
        space, fixed = from_stored(method["spaces"][trial["problem"]]), method["fixes"][trial["problem"]]
        assert {**sample(space, trial["seed"]), **fixed} == trial["params"]


def test_an_old_manifest_without_all_keys_is_read() -> None:
    stored: Any = {
        "a": {"kind": "float", "low": 0, "high": 2},
        "b": {"kind": "int", "low": 2, "high": 4},
        "c": {"kind": "categorical", "choices": ["constant", 3, True]},
    }
    options = ("constant", "3", "True")
    assert from_stored(stored) == {"a": Float(0.0, 2.0, 0.0), "b": Int(2, 4, 2), "c": Choice(options, options[0])}


@pytest.mark.parametrize(("method", "name"), METHODS)
def test_the_axis_of_a_figure_has_the_range_of_the_study_file(method: str, name: str) -> None:
    space = searched(method, name)
    drawn = from_stored(json.loads(json.dumps(to_stored(space))))
    assert list(drawn) == list(space)
    for key, declared in space.items():
        scale = Scale(key, drawn[key])
        axis = scale.axis(key)
        if isinstance(declared, Choice):
            assert scale.choices == declared.options and axis["ticktext"] == list(declared.options)
            continue
        log = isinstance(declared, Float) and declared.log
        assert (scale.low, scale.high, scale.log) == (declared.low, declared.high, log)
        assert axis["type"] == ("log" if log else "linear")
        ends = [10**end for end in axis["range"]] if log else axis["range"]
        places = scale.places(scale.numbers(ends))
        assert places == pytest.approx([-0.04, 1.04])


def test_a_study_files_own_ranges_reach_the_figure() -> None:
    task = problem("rosenbrock")
    lr = searched("calm", "rosenbrock")["lr"]
    scale = Scale("lr", from_stored(to_stored({"lr": lr}))["lr"])
    assert MANIFEST["spec"]["method"]["calm"]["space"]["lr"] == [scale.low, scale.high] == [1e-3, 1.0]
    assert task.space["lr"] != (scale.low, scale.high)
