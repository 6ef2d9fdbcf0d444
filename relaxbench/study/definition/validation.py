"""Validate studies: every mistake is reported in one line that names what is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NoReturn

import torch
from pydantic import ValidationError

from relaxbench.errors import UserError, unknown
from relaxbench.optim.hyper import expected, stack
from relaxbench.optim.registry import RULES, rule_names
from relaxbench.problems import Problem
from relaxbench.space import Int
from relaxbench.study.definition import spaces
from relaxbench.study.definition.ranges import narrow
from relaxbench.study.definition.spec import StudySpec, Variant


def parse(values: Mapping[str, object], where: str, names: Mapping[str, str] | None = None) -> StudySpec:
    """Make a valid study from plain values.

    Args:
        values: by key.
        where: their origin, for error messages.
        names: how messages name keys whose values have another origin.

    Raises:
        UserError: naming the first key that is wrong.
    """
    try:
        return check(StudySpec.model_validate(values))
    except ValidationError as error:
        _refuse(error, where, names or {})
    except UserError as error:
        raise UserError(f"{where}: {error}", *error.settings) from None


def check(spec: StudySpec) -> StudySpec:
    """Return the study if everything that it names exists and every range is possible.

    Raises:
        UserError: naming the first thing that is wrong.
    """
    known = {*rule_names(), *spec.method}
    for label in [*spec.methods, *spec.controls, spec.baseline]:
        if label not in known:
            raise unknown("method", label, known, "python -m relaxbench list shows all")
    for kind, values in (("method", spec.methods), ("problem", spec.problems)):
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise UserError(f"{kind} {twice[0]!r} is named twice: name it once")
    if spec.baseline not in spec.methods:
        raise UserError(
            f"baseline {spec.baseline!r} is not among the methods, so nothing could be compared: add it to "
            "`methods`, or name another `baseline`"
        )
    labels = {*RULES, *spec.methods, *spec.controls, *spec.method}  # rules of other packages only if they are named
    searched = {name for label in labels for name in spec.rule_of(label).wide}
    for name in spec.space:
        if name not in searched:
            raise unknown("hyperparameter in [space]", name, searched)
    for label in labels:
        variant, space = spec.method.get(label), spec.rule_of(label).wide
        if variant:
            _check_values(spec, label, variant)
        for bounds in (spec.space, variant.space if variant else {}):
            for name in bounds.keys() & space.keys():
                narrow(space[name], name, bounds[name])
        if variant:
            _check_options(spec, label, variant)
    return spec


def check_on(spec: StudySpec, problems: Sequence[Problem]) -> None:
    """Check that every method can run on every problem: within the budget, and with the curvature that it needs.

    Raises:
        UserError: if the budget is smaller than the longest outer step that could be drawn, or if a rule that uses
            curvature meets a loss without it.
    """
    for problem in problems:
        for label in spec.methods:
            params = spaces.typical(spec.search_of(label), problem)
            steps = spec.space_of(label, problem).get("inner_steps")
            if isinstance(steps, Int):
                params["inner_steps"] = steps.high
            rule = spec.make_rule(label)
            if rule.curvature:
                problem.convex_loss()
            queries = int(rule.period(stack([params], torch.device("cpu"), torch.float32)))
            period = math.ceil(queries * rule.price * rule.replicas)
            if period > spec.budget_of(problem):
                raise UserError(
                    f"budget {spec.budget_of(problem)} is smaller than one outer step of {label} (up to {period} "
                    "gradients): raise the budget, or lower inner_steps in [space]"
                )


def _check_values(spec: StudySpec, label: str, variant: Variant) -> None:
    """Check the names of a variant's hyperparameters and its fixed values."""
    space = spec.rule_of(label).wide
    for name in [*variant.space, *variant.fixed]:
        if name not in space:
            raise unknown(f"hyperparameter of [method.{label}]", name, space)
    for name, value in variant.fixed.items():
        wanted = expected(name, space[name], value)
        if wanted:
            raise UserError(f"method.{label}.fixed.{name} = {value!r}: expected {wanted}")


def _check_options(spec: StudySpec, label: str, variant: Variant) -> None:
    """Check that the rule takes a variant's options."""
    try:
        spec.make_rule(label)
    except TypeError:
        raise UserError(f"method.{label}.options = {variant.options}: {variant.rule} has no such option") from None
    except ValueError as error:
        raise UserError(f"method.{label}.options: {error}") from None


def _refuse(error: ValidationError, where: str, names: Mapping[str, str]) -> NoReturn:
    """Raise pydantic's first error as one of ours; see `parse`."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(part for part in path if part not in ("list[float]", "list[str]", "float", "str"))
    if first["type"] == "extra_forbidden":
        fields = Variant.model_fields if path[0] == "method" else StudySpec.model_fields
        raise unknown(f"key in {where}:", path[-1], fields) from None
    if first["type"] == "too_short":
        raise UserError(f"{where}: {key} is empty: name at least one") from None
    if first["type"] == "missing":
        raise UserError(f"{where}: the key {key!r} is missing") from None
    origin = f"{names[key]} {first['input']!r}" if key in names else f"{where}: {key} = {first['input']!r}"
    raise UserError(f"{origin}: {first['msg'][0].lower()}{first['msg'][1:]}") from None
