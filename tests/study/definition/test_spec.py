"""What a specification says of each method: its space, its fixed values and its role."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from relaxbench.errors import UserError
from relaxbench.optim.registry import RULES
from relaxbench.optim.rule import Rule
from relaxbench.problems import PROBLEMS, problem
from relaxbench.space import Choice, Float, Int, Space
from relaxbench.study.definition.spec import StudySpec
from relaxbench.study.definition.validation import parse

GOOD: dict[str, Any] = {"name": "good", "problems": ["rosenbrock"], "methods": ["sgd", "heat"]}


def test_spaces_narrow_in_order_shared_problem_study_method() -> None:
    task = problem("rosenbrock")
    s = parse(GOOD, "x")
    lr = s.space_of("sgd", task)["lr"]
    assert isinstance(lr, Float) and (lr.low, lr.high) == task.space["lr"] and lr.log
    assert s.space_of("sgd", problem("rugged-1d"))["lr"] == RULES["sgd"].space["lr"]
    variant = {"rule": "sgd", "space": {"lr": [1, 2]}, "fixed": {"momentum": 0.0}, "options": {"nesterov": False}}
    s = parse({**GOOD, "space": {"lr": [1e-2, 1], "schedule": ["constant"]}, "method": {"mine": variant}}, "x")
    studied = s.space_of("sgd", task)
    assert (studied["lr"].low, studied["lr"].high) == (1e-2, 1)  # type: ignore[union-attr]
    assert studied["schedule"] == Choice(("constant",), "constant")
    mine = s.space_of("mine", task)
    assert (mine["lr"].low, mine["lr"].high) == (1, 2) and "momentum" not in mine  # type: ignore[union-attr]
    assert (
        s.fixed_of("mine", task) == {"weight_decay": 0.0, "momentum": 0.0}
        and s.make_rule("mine", task).nesterov is False
    )  # type: ignore[attr-defined]
    for name, declared in s.space_of("heat", task).items():
        if isinstance(declared, (Float, Int)):
            assert declared.low <= declared.default <= declared.high, name


def test_shared_ranges_are_the_same_for_all_methods() -> None:
    s = parse({**GOOD, "methods": list(RULES)}, "x")
    for name in PROBLEMS:
        ranges: dict[str, set[Any]] = {}
        for label in RULES:
            for key, declared in s.space_of(label, problem(name)).items():
                shown = declared.options if isinstance(declared, Choice) else (declared.low, declared.high)
                ranges.setdefault(key, set()).add(shown)
        assert all(len(found) == 1 for found in ranges.values()), ranges


def roles(s: StudySpec) -> list[str]:
    return [s.role_of(label) for label in s.methods]


def test_roles() -> None:
    s = parse({**GOOD, "methods": ["sgd", "lookahead", "heat"], "controls": ["lookahead"]}, "x")
    assert roles(s) == ["baseline", "control", "candidate"]


def test_a_method_chooses_among_the_spaces_of_its_rule() -> None:
    """Whichever it is, every hyperparameter is searched or fixed."""
    task = problem("digits-mlp")
    methods = {
        "heat": {"title": "H"},
        "all": {"rule": "heat", "space": "wide"},
        "some": {"rule": "heat", "space": {"momentum": [0.8, 0.9]}},
    }
    s = parse({**GOOD, "methods": ["sgd", *methods], "method": methods}, "x")
    for label in methods:
        space, fixed = s.space_of(label, task), s.fixed_of(label, task)
        assert set(space) | set(fixed) == set(s.hyperparameters("heat")) and not set(space) & set(fixed)
    assert s.space_of("all", task) == s.hyperparameters("heat") and s.fixed_of("all", task) == {}
    momentum = s.space_of("some", task)["momentum"]
    assert isinstance(momentum, Float) and (momentum.low, momentum.high) == (0.8, 0.9)
    assert [s.space_name_of(label) for label in methods] == ["default", "wide", "custom"]
    assert {s.arm_of(label) for label in methods} == {"tuned"}
    assert [s.title_of(label) for label in methods] == ["H", "all", "some"]
    assert parse({**GOOD, "space": {"lr": [0.1, 1]}}, "x").space_name_of("heat") == "custom"
    assert parse({**GOOD, "method": {"heat": {}}}, "x").title_of("heat") == RULES["heat"].title


def test_a_rule_without_published_settings_cannot_be_run_as_published() -> None:
    class Mute(Rule):
        name, title, source = "mute", "Mute", "nowhere"
        space: ClassVar[Space] = {"lr": Float(0.1, 1.0, 0.5)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RULES, "mute", Mute)
        told = r'x: method.mute: arm = "published", but rule \'mute\' has no such settings'
        with pytest.raises(UserError, match=told):
            parse({**GOOD, "methods": ["sgd", "mute"], "method": {"mute": {"arm": "published"}}}, "x")
