"""The three spaces of a rule in words: for `list` and for the page of docs that argues them."""

from __future__ import annotations

from typing import NamedTuple

from relaxbench.optim.published import Published
from relaxbench.optim.rule import Rule
from relaxbench.space import Choice, Float, Hyperparameter, Value


class Row(NamedTuple):
    """What the spaces of a rule say of one hyperparameter.

    Attributes:
        name: of the hyperparameter.
        published: its published values, with their kinds of problem where they differ, and a star where the source
            does not give the value.
        default: the range that a study searches by default, or the value at which it keeps it.
        wide: the range of the wide space.
        reason: why the default is as it is.
    """

    name: str
    published: str
    default: str
    wide: str
    reason: str


def rows(rule: type[Rule]) -> list[Row]:
    """Return one row per hyperparameter, in the order of the wide space."""
    return [
        Row(
            name,
            published_in_words(rule, name),
            in_words(rule.space[name]) if name in rule.space else f"fixed: {_value(rule.default_fixed[name])}",
            in_words(wide),
            rule.reason(name),
        )
        for name, wide in rule.wide.items()
    ]


def in_words(declared: Hyperparameter) -> str:
    """Return a range in a few words."""
    if isinstance(declared, Choice):
        return ", ".join(declared.options)
    if isinstance(declared, Float):
        return f"{_value(declared.low)} to {_value(declared.high)}{' (log)' if declared.log else ''}"
    values = range(declared.low, declared.high + 1, declared.step)
    if len(values) <= 2:
        return " or ".join(map(str, values))
    return f"{declared.low} to {declared.high}{f' in steps of {declared.step}' if declared.step > 1 else ''}"


def published_in_words(rule: type[Rule], name: str) -> str:
    """Return the published values of a hyperparameter; "" if there are none."""
    kinds: dict[str, list[str]] = {}
    for publication in rule.publications:
        kinds.setdefault(published_value(publication, name), []).append(publication.kind)
    if len(kinds) <= 1:
        return "".join(kinds)
    return "; ".join(f"{value} ({', '.join(names)})" for value, names in kinds.items())


def published_value(publication: Published, name: str) -> str:
    """Return a published value, with a star where the source does not give it."""
    return f"{_value(publication.values[name])}{'*' if name in publication.assumed else ''}"


def _value(value: Value) -> str:
    if isinstance(value, str):
        return value
    text = f"{value:.4g}"
    return f"{value:,.0f}" if "e+" in text else text.replace("e-0", "e-")
