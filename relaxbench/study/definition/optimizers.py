"""Validate the optimizers that a study wraps, and values that a rule itself refuses."""

from __future__ import annotations

from collections.abc import Iterable

from relaxbench.errors import UserError
from relaxbench.optim.hyper import defaults
from relaxbench.optim.wrapped.locate import is_path
from relaxbench.space import Choice
from relaxbench.study.definition.spec import StudySpec


def check_optimizers(spec: StudySpec, labels: Iterable[str]) -> None:
    """Check that every optimizer that a study names exists, and can be stored for many trials.

    Raises:
        UserError: naming the method and the first thing that is wrong.
    """
    for label in sorted(labels):
        if is_path(spec.variant(label).rule or label):
            try:
                spec.rule_of(label)
            except UserError as error:
                raise UserError(f"method.{label}: {error}") from None


def check_refusals(spec: StudySpec, label: str) -> None:
    """Check that a rule takes the ends of the ranges, and the fixed values, that a study file states.

    Raises:
        UserError: naming the key and the value, with the words in which the rule refuses it.
    """
    variant, rule = spec.variant(label), spec.rule_of(label)
    base = {**defaults(rule.wide), **rule.default_fixed}
    base |= {name: value for name, value in variant.fixed.items() if name in rule.wide}
    ranges = {name: bounds for name, bounds in {**spec.space, **variant.ranges}.items() if name in rule.wide}
    tried = [(f"fixed.{name}", value, {name: value}) for name, value in variant.fixed.items() if name in rule.wide]
    for name, bounds in ranges.items():
        if not isinstance(rule.wide[name], Choice):
            tried += [(f"space.{name}", value, {name: value}) for value in bounds]
    for key, value, changed in tried:
        reason = rule.refusal({**base, **changed})
        if reason:
            raise UserError(
                f"method.{label}.{key} = {value!r}: {rule.name} refuses it ({reason}): choose another value"
            )
