"""The table ``[ablation]`` of a study file: methods without one of their parts, each against the whole method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from relaxbench.errors import UserError, unknown
from relaxbench.optim.parts import Part
from relaxbench.optim.registry import is_rule, loadable_rules, rule_class, rule_names
from relaxbench.optim.rule import Rule
from relaxbench.study.definition.left_out import ranges_in, without
from relaxbench.study.definition.spec import StudySpec, Variant
from relaxbench.util.text import listed

BASELINE = "sgd"
"""Of an ablation of several methods, unless the study names another one."""


class Ablation(BaseModel):
    """Which methods are taken apart.

    Attributes:
        methods: their labels.
        parts: names of the parts that are left out, one at a time; empty for all that a method has.
    """

    model_config = ConfigDict(extra="forbid")
    methods: list[str]
    parts: list[str] = []


def expanded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a study file with the methods that its table ``[ablation]`` asks for, in place of it.

    Each is a table ``[method.NAME]`` of its own, as a person could have written it.

    Raises:
        UserError: if it names a method or a part that does not exist, or a study has no such parts.
    """
    if "ablation" not in values:
        return dict(values)
    rest = {key: value for key, value in values.items() if key != "ablation"}
    if "script" in rest:
        raise UserError(
            "[ablation]: the parts of a training script are not known: write a table [method.NAME] for each, with "
            "`against`"
        )
    asked = _asked(values["ablation"])
    tables = dict(rest.get("method", {}))
    made: dict[str, dict[str, Any]] = {}
    for whole in asked.methods:
        made |= _tables(whole, rest, asked.parts)
    clash = next((label for label in made if label in tables), None)
    if clash:
        raise UserError(f"method.{clash}: [ablation] makes a method of this name: give yours another one")
    stated = list(rest.get("methods", []))
    single = len(asked.methods) == 1 and not stated
    baseline = rest.get("baseline", asked.methods[0] if single else BASELINE)
    methods = list(dict.fromkeys([baseline, *stated, *asked.methods, *made]))
    return {**rest, "baseline": baseline, "methods": methods, "method": {**tables, **made}}


def opponents_in(values: Mapping[str, Any], labels: Iterable[str]) -> list[str]:
    """Return the methods that those of some labels are compared with, by the tables of a study file."""
    tables = values.get("method", {})
    found = [table.get("against") for label in labels if isinstance(table := tables.get(label), Mapping)]
    return [label for label in found if isinstance(label, str)]


def check_opponents(spec: StudySpec) -> None:
    """Check that every method that is compared with another one than the baseline can be.

    Raises:
        UserError: naming the first one that cannot.
    """
    for label in spec.methods:
        opponent = spec.variant(label).against
        if opponent is None:
            continue
        where = f"method.{label}.against = {opponent!r}"
        if opponent not in spec.methods:
            raise UserError(f"{where}: it is not among the methods: add it to `methods`, or leave `against` out")
        if label in (opponent, spec.baseline):
            what = "the baseline, which is compared with nothing" if label == spec.baseline else "this method itself"
            raise UserError(f"{where}: {label!r} is {what}: leave `against` out")
        beyond = spec.variant(opponent).against
        if beyond not in (None, spec.baseline):
            other = "" if beyond == label else f"name {beyond!r}, or "
            raise UserError(
                f"{where}: that one is compared with {beyond!r} itself: {other}leave `against` out, which means the "
                "baseline"
            )
        if spec.arm_of(opponent) == "published":
            raise UserError(
                f"{where}: it is run as published, and a tuned method is compared with tuned ones: name another one"
            )


def parts_of(whole: str, values: Mapping[str, Any]) -> list[Part]:
    """Return the parts that a method has here: a part is not there if the whole method lacks it already.

    Args:
        whole: its label.
        values: of the study file, see `expanded`.

    Raises:
        UserError: if there is no such method, or its rule has no parts.
    """
    rule, table = _rule_of(whole, values)
    if not rule.parts:
        having = [each.name for each in loadable_rules() if each.parts]
        raise UserError(
            f"method {whole!r} has no parts that could be left out: its rule declares none; write a variant with "
            f"`against` = {whole!r}, or name a method with one of the rules {listed(having)}"
        )
    return [part for part in rule.parts if without(part, rule, table, ranges_in(values)) is not None]


def label_of(whole: str, part: Part) -> str:
    """Return the label of a method without a part."""
    return f"{whole}-{'half' if part.half else 'no'}-{part.name}"


def _asked(table: object) -> Ablation:
    try:
        asked = Ablation.model_validate(table)
    except ValidationError as error:
        first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        keys = [str(key) for key in first["loc"] if isinstance(key, str)]
        if first["type"] == "extra_forbidden":
            raise unknown("key in table [ablation]:", keys[-1], Ablation.model_fields) from None
        where = " ".join(["[ablation]", *([".".join(keys)] if keys else [])])
        raise UserError(f'{where}: expected methods = ["entropy-sgd"], and perhaps parts = ["scoping"]') from None
    if isinstance(table, Mapping) and table.get("parts") == []:
        raise UserError("[ablation] parts is empty: name at least one, or leave the key out for all")
    for key, names in (("methods", asked.methods), ("parts", asked.parts)):
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise UserError(f"[ablation] {key}: {twice!r} stands there twice: name it once")
    if not asked.methods:
        raise UserError("[ablation] methods is empty: name at least one")
    return asked


def _rule_of(whole: str, values: Mapping[str, Any]) -> tuple[type[Rule], Variant]:
    """The rule of a method and its table, neutral where the study file has none."""
    tables = values.get("method", {})
    own = tables.get(whole, {}) if isinstance(tables, Mapping) else {}
    name = own.get("rule", whole) if isinstance(own, Mapping) else whole
    if whole not in tables and not is_rule(whole):
        raise unknown("method", whole, {*rule_names(), *tables}, "python -m relaxbench list shows all")
    try:
        table = Variant.model_validate(own)
    except ValidationError:
        table = Variant()  # the check of the whole study says what is wrong
    if table.arm == "published":
        raise UserError(
            f"method {whole!r} is run as published, and what its parts are worth needs tuning: name another"
        )
    return rule_class(str(name), table.options), table


def _tables(whole: str, values: Mapping[str, Any], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The tables of a method without each of its parts, by label."""
    rule, table = _rule_of(whole, values)
    parts = parts_of(whole, values)
    there, declared = {part.name: part for part in parts}, {part.name for part in rule.parts}
    for name in names:
        if name not in declared:
            raise unknown(f"part of {whole}", name, declared)
        if name not in there:
            raise UserError(
                f"[ablation] parts: {whole} has no {name} here that could be left out: leave it out of parts"
            )
    title = table.title or (rule.title if whole == rule.name else whole)
    made = {}
    for part in [there[name] for name in names] if names else parts:
        changed = without(part, rule, table, ranges_in(values))
        assert changed is not None  # as parts_of says
        name = f"{title} with {part.instead}" if part.half else f"{title} without {part.title}"
        told = {"title": name, "against": whole, "without": part.title}
        made[label_of(whole, part)] = {**changed, **told, "instead": part.instead}
    return made
