"""What a specification says of each method: its space, its fixed values and its role."""

from __future__ import annotations

from typing import Any

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
    assert s.fixed_of("mine", task) == {"weight_decay": 0.0, "momentum": 0.0} and s.make_rule("mine").nesterov is False  # type: ignore[attr-defined]
    for name, declared in s.space_of("heat", task).items():
        if isinstance(declared, (Float, Int)):
            assert declared.low <= declared.default <= declared.high, name


def roles(s: StudySpec) -> list[str]:
    return [s.role_of(label) for label in s.methods]


def test_roles() -> None:
    s = parse({**GOOD, "methods": ["sgd", "lookahead", "heat"], "controls": ["lookahead"]}, "x")
    assert roles(s) == ["baseline", "control", "candidate"]
