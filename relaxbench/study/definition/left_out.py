"""A method without one of its parts, as a table of a study file: other values, other options, or another rule."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from relaxbench.optim.parts import Part
from relaxbench.optim.registry import rule_class
from relaxbench.optim.rule import Rule
from relaxbench.space import Int, Value
from relaxbench.study.definition.ranges import Bounds, narrow
from relaxbench.study.definition.spaces import without_effect
from relaxbench.study.definition.spec import Variant

Ranges = Mapping[str, Bounds]


def ranges_in(values: Mapping[str, Any]) -> Ranges:
    """Return the ranges that a study file gives for all methods, as far as they are ranges."""
    ranges = values.get("space", {})
    return {name: list(b) for name, b in ranges.items() if isinstance(b, list)} if isinstance(ranges, Mapping) else {}


def without(part: Part, rule: type[Rule], whole: Variant, study: Ranges) -> dict[str, Any] | None:
    """Return the table of a method without a part; None where the method lacks it already.

    It is searched like the whole method in everything else: what the study or its table says of ranges, values,
    options and sampler holds for it too.

    Args:
        part: of the rule.
        rule: of the whole method.
        whole: its table; neutral if it has none.
        study: ranges for all methods.
    """
    if part.fixed and part.fixed.keys() <= without_effect(rule, whole.options).keys():
        return None
    kept = _kept(rule, whole, study)
    if part.rule:
        other = rule_class(part.rule)
        fixed = {name: value for name, value in kept.items() if name in other.wide} | dict(part.fixed)
        ranges = {name: bounds for name, bounds in whole.ranges.items() if name in other.wide}
        return _table(part.rule, whole, fixed, ranges, {})
    fixed, ranges, options = {**whole.fixed, **part.fixed}, dict(whole.ranges), {**whole.options, **part.options}
    if part.half:
        halved = _halved(part.half, rule, whole, kept, {**study, **whole.ranges})
        if halved is None:
            return None
        fixed, ranges = {**fixed, **halved[0]}, {**ranges, **halved[1]}
    elif all(kept.get(name) == value for name, value in part.fixed.items()):
        usual = {key: given.default for key, given in inspect.signature(rule).parameters.items()}
        if {**usual, **options} == {**usual, **whole.options}:
            return None
    return _table(rule.name, whole, fixed, ranges, options)


def _table(
    rule: str, whole: Variant, fixed: Mapping[str, Value], ranges: Ranges, options: Mapping[str, Any]
) -> dict[str, Any]:
    """A table with the keys that say something."""
    space: Any = {name: bounds for name, bounds in ranges.items() if name not in fixed}
    if not space and whole.space == "wide":
        space = "wide"
    search = whole.search.model_dump() if whole.search else None
    keys = {"fixed": dict(fixed), "space": space, "options": dict(options), "search": search}
    return {"rule": rule, **{key: value for key, value in keys.items() if value}}


def _kept(rule: type[Rule], whole: Variant, study: Ranges) -> dict[str, Value]:
    """What a method keeps fixed, with its values, as `spaces.fixed_of` has it before a problem is known."""
    default = {} if whole.space == "wide" else rule.default_fixed
    searched = {*study, *whole.ranges}
    return {**{name: value for name, value in default.items() if name not in searched}, **whole.fixed}


def _halved(
    name: str, rule: type[Rule], whole: Variant, kept: Mapping[str, Value], ranges: Ranges
) -> tuple[dict[str, Value], dict[str, Bounds]] | None:
    """What is fixed, and what is searched, where every value of an integer is halved; None where the least is 1.

    Of a wide space half of the default is fixed, because ranges of a method's own would replace all of that space.
    """
    if name in kept or whole.space == "wide":
        value = int(kept.get(name, rule.wide[name].default))
        return ({name: value // 2}, {}) if value > 1 else None
    searched = narrow(rule.wide[name], name, ranges[name]) if name in ranges else rule.space[name]
    assert isinstance(searched, Int)
    low, high = searched.low // 2, searched.high // 2
    if low < 1:
        return None
    if low == high:
        return {name: low}, {}
    two = searched.low + searched.step >= searched.high  # the halves of two values are two values
    step = high - low if two else max(searched.step // 2, 1)
    return {}, {name: [float(low), float(low + (high - low) // step * step), float(step)]}
