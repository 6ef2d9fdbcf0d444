"""What a specification says of each method: its space, its fixed values and its role."""

from __future__ import annotations

from typing import Any

import pytest

from relaxbench.errors import UserError
from relaxbench.optim.registry import RULES
from relaxbench.problems import problem
from relaxbench.space import Choice, Float, Int
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


def roles(s: StudySpec) -> list[str]:
    return [s.role_of(label) for label in s.methods]


def test_methods_are_baseline_control_or_candidate() -> None:
    s = parse({**GOOD, "methods": ["sgd", "lookahead", "heat"], "controls": ["lookahead"]}, "x")
    assert roles(s) == ["baseline", "control", "candidate"]


def test_a_method_chooses_among_the_spaces_of_its_rule() -> None:
    heat, task = RULES["heat"], problem("digits-mlp")
    methods = {
        "heat": {"title": "H"},
        "all": {"rule": "heat", "space": "wide"},
        "some": {"rule": "heat", "space": {"momentum": [0.8, 0.9]}},
        "plain": {"rule": "heat", "arm": "published"},
    }
    s = parse({**GOOD, "methods": ["sgd", *methods], "method": methods}, "x")
    assert set(s.space_of("heat", task)) == set(heat.space) and "momentum" in heat.default_fixed
    assert set(s.space_of("all", task)) == set(heat.wide) and s.fixed_of("all", task) == {}
    assert set(s.space_of("some", task)) == {*heat.space, "momentum"}
    assert s.space_of("plain", task) == {} and s.fixed_of("plain", task) == heat.published_for(task.kind)
    for label in ("heat", "all", "some", "plain"):  # every setting is complete
        assert set(s.space_of(label, task)) | set(s.fixed_of(label, task)) == set(heat.wide)
    assert s.fixed_of("plain", problem("rosenbrock"))["weight_decay"] == 0.0  # what a problem fixes holds for all
    assert [s.space_name_of(label) for label in methods] == ["default", "wide", "custom", "default"]
    assert [s.arm_of(label) for label in methods] == ["tuned", "tuned", "tuned", "published"]
    assert [s.title_of(label) for label in methods] == ["H", "all", "some", "plain"]
    assert parse({**GOOD, "space": {"lr": [0.1, 1]}}, "x").space_name_of("heat") == "custom"
    assert parse({**GOOD, "method": {"heat": {}}}, "x").title_of("heat") == heat.title


def test_a_rule_without_published_settings_cannot_be_run_as_published() -> None:
    class Mute(RULES["heat"]):  # type: ignore[name-defined, misc]
        name, publications = "mute", ()

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RULES, "mute", Mute)
        with pytest.raises(
            UserError, match=r'x: method.mute: arm = "published", but rule \'mute\' has no such settings'
        ):
            parse({**GOOD, "methods": ["sgd", "mute"], "method": {"mute": {"arm": "published"}}}, "x")
