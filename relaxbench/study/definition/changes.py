"""Compare a stored specification with a new one: what may change in a study that has begun, and what may not.

Looks, budgets, spaces and the tuning budget are part of the guarantee: they are declared before any result is seen.
Methods and problems may be added; their comparisons then share the level with the others. Margin, baseline and
controls may change until test data are read, and later only as restated: `restated` checks it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from relaxbench.optim.registry import option_defaults
from relaxbench.study.definition.spec import StudySpec, Variant

EXTENDABLE = ("problems", "methods", "more_blocks", "exploit", "recommend", "repetitions", "method")
"""Keys that may grow in a study that has begun."""
FREE = ("description", "flatness", "track")
"""Keys that may change at any time: they affect reporting only, or measures taken from now on."""
STATED = ("margin", "baseline", "controls")
"""Keys that no trial depends on, and every verdict does: they may change until test data are read."""

DECLARED = ("looks", "trials", "budget", "budgets", "space", "search", "known")
"""Keys on which the guarantee of the verdicts rests."""
DECLARED_OF_METHODS = ("rule", "arm", "space", "fixed", "options", "search", "against")
"""The same, of a table ``[method.NAME]``."""


def _changed_methods(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say what differs in the tables of methods that both specifications have; a missing table says nothing special."""
    neutral = Variant().model_dump()
    both = {*old["methods"], *old["method"]} & {*new["methods"], *new["method"]}
    lines = []
    for name in sorted(both):
        before, after = old["method"].get(name, neutral), new["method"].get(name, neutral)
        for key in sorted((before.keys() | after.keys()) - {"title", "without", "instead"}):  # words change no number
            usual = option_defaults(after.get("rule") or name) if key == "options" else None
            if _resolved(before.get(key), usual) != _resolved(after.get(key), usual):
                declared = " (declared before the study began)" if key in DECLARED_OF_METHODS else ""
                lines.append(f"method.{name}.{key}: {_shown(before.get(key))} → {_shown(after.get(key))}{declared}")
    return lines


def _resolved(value: Any, usual: Mapping[str, Any] | None) -> Any:
    """A value of a method's table; an option that is stated as the rule has it anyway (`usual`) says nothing."""
    return value if usual is None else {**usual, **(value or {})}


def _shown(value: object) -> str:
    """Return a value as a study file has it; "none" for one that says nothing."""
    if value in (None, "", [], {}):
        return "none"
    if isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{name} = {_shown(inner)}' for name, inner in value.items())} }}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Merge a new specification into a stored one.

    Returns:
        the differences that keep the stored study from continuing as the new one, one line each; the merged
        specification.
    """
    refused: list[str] = []
    merged = dict(old)
    for key in sorted(old.keys() | new.keys()):
        before: Any = old.get(key)
        after: Any = new.get(key)
        if key in (*FREE, *STATED):
            merged[key] = after
        elif key in ("problems", "methods"):
            merged[key] = [*before, *(name for name in after if name not in before)]
        elif key == "method":
            refused += _changed_methods(old, new)
            merged[key] = {**before, **after}
        elif key == "more_blocks":
            merged[key] = max(before, after)  # the same command without the option goes on with what there is
        elif key in EXTENDABLE:
            if after < before:
                refused.append(f"{key}: {before} → {after} (may grow, not shrink)")
            merged[key] = after
        elif before != after:
            declared = " (declared before the study began)" if key in DECLARED else ""
            refused.append(f"{key}: {_shown(before)} → {_shown(after)}{declared}")
    return refused, merged


def variant_advice(refused: Sequence[str], spec: StudySpec) -> str:
    """Advise to add what was changed of a single method as a method of its own; empty if more was changed."""
    label = refused[0].removeprefix("method.").partition(": ")[0].rpartition(".")[0]
    if label not in spec.methods or not all(line.startswith(f"method.{label}.") for line in refused):
        return ""
    rule = spec.variant(label).rule or label
    return f'leave {label!r} as it was and add the change as a variant, [method.{label}-2] with rule = "{rule}"; or '
