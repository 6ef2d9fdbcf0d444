"""Facts that a study stores: what is unknown reads as neutral, and nothing is missing."""

from __future__ import annotations

from typing import Any, get_type_hints

from relaxbench.space import Float
from relaxbench.store.facts import (
    MethodFacts,
    ProblemFacts,
    fixed_on,
    looks_of,
    method_facts,
    planned_looks,
    problem_facts,
    protocol,
    space_on,
)

LR = {"kind": "float", "low": 0.01, "high": 1.0, "log": True}


def keys(facts: Any) -> set[str]:
    return set(get_type_hints(facts))


def test_unknown_facts_are_neutral_and_complete() -> None:
    old: Any = {
        "problems": {"p": {"title": "P", "unit": "%"}},
        "methods": {"m": {"title": "M", "space": {"lr": LR}, "fixed": {"batch": 64}}},
    }
    assert set(problem_facts({}, "p")) == keys(ProblemFacts) == set(problem_facts(old, "p"))
    assert set(method_facts({}, "m")) == keys(MethodFacts) == set(method_facts(old, "m"))
    assert problem_facts(old, "p")["unit"] == "%" and problem_facts({}, "p")["title"] == "p"
    method = method_facts(old, "m", "control")
    assert (method["title"], method["role"], method["rule"]) == ("M", "control", "m")
    assert space_on(method, "p") == {"lr": Float(0.01, 1.0, 0.01, log=True)} and fixed_on(method, "p") == {"batch": 64}
    method["spaces"]["p"], method["fixes"]["p"] = {}, {}
    assert space_on(method, "p") == {} and fixed_on(method, "p") == {}


def test_a_specification_without_looks_is_of_the_first_protocol() -> None:
    old: Any = {"blocks": 10, "trials": 12}
    assert (protocol(old), looks_of(old), planned_looks(old, {})) == (1, (10,), (10,))
    assert (protocol({}), looks_of({}), planned_looks({}, {})) == (1, (), ())
    new: Any = {"looks": [10, 20, 40], "more_blocks": 0}
    assert (protocol(new), looks_of(new), planned_looks(new, {})) == (2, (10, 20, 40), (10, 20, 40))
    assert planned_looks({**new, "more_blocks": 5}, {}) == (10, 20, 40, 45)
    assert planned_looks({**new, "more_blocks": 9}, {"extra_looks": [42, 45]}) == (10, 20, 40, 42, 45, 49)
    assert looks_of({**new, "more_blocks": 5}) == (10, 20, 40)
