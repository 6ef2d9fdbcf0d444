"""Tuned methods of which nothing is searched, or not as the study says: it is told, as it may be meant."""

from __future__ import annotations

from collections.abc import Sequence

from relaxbench.optim.wrapped.rule import WrappedRule
from relaxbench.problems import Problem
from relaxbench.study.coordination.pruners import NONE
from relaxbench.study.definition.spec import StudySpec


def unsearched(spec: StudySpec, problems: Sequence[Problem]) -> list[str]:
    """Return a line for each tuned method whose step size, or anything at all, is not searched on some problem.

    Methods whose own table ``[method.NAME.search]`` leaves out what the study's says have a line, too.
    """
    told = _replaced(spec)
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


def _replaced(spec: StudySpec) -> list[str]:
    """Return a line for each tuned method that has not the study's pruner, or sampler, and does not say so itself."""
    told = []
    for label in spec.methods if spec.search is not None else ():
        own, everyone = spec.variant(label).search, spec.search
        if own is None or everyone is None or spec.arm_of(label) != "tuned":
            continue
        parts = []
        if own.sampler != everyone.sampler and "sampler" not in own.model_fields_set:
            parts.append(f"sampler {own.sampler!r} in place of {everyone.sampler!r}")
        if everyone.pruner != NONE and "pruner" not in own.model_fields_set:
            parts.append(f"no pruner in place of {everyone.pruner!r}, so that all of its trials run to their end")
        if parts:
            told.append(
                f"method {label!r}: [method.{label}.search] replaces the whole table [search] of the study: "
                f"{' and '.join(parts)}; write in it what is meant"
            )
    return told
