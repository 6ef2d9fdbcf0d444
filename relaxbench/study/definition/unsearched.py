"""Tuned methods of which nothing is searched, or not what matters: it is told, as it may be meant."""

from __future__ import annotations

from collections.abc import Sequence

from relaxbench.optim.wrapped.rule import WrappedRule
from relaxbench.problems import Problem
from relaxbench.study.definition.spec import StudySpec


def unsearched(spec: StudySpec, problems: Sequence[Problem]) -> list[str]:
    """Return a line for each tuned method whose step size, or anything at all, is not searched on some problem."""
    told = []
    for label in spec.methods if spec.script is None else ():
        if spec.arm_of(label) != "tuned":
            continue
        rule, fixed = spec.rule_of(label), spec.variant(label).fixed
        spaces = [spec.space_of(label, problem) for problem in problems]
        hints = [rule.unsearched(space, fixed) for space in spaces] if issubclass(rule, WrappedRule) else []
        hint = next((hint for hint in hints if hint), None)
        if hint:
            told.append(f"method {label!r}: {hint}")
        elif not all(spaces):
            told.append(f"method {label!r}: nothing is searched, so that all of its trials have the same settings")
    return told
