"""The options of a rule, the arguments of its constructor, as its docstring describes them."""

from __future__ import annotations

import inspect
import re
from typing import Any, NamedTuple

from relaxbench.optim.rule import Rule


class Option(NamedTuple):
    """An argument of a rule's constructor.

    Attributes:
        text: what the docstring of the rule, or of the rule it extends, says of it.
        default: its value where none is given; `inspect.Parameter.empty` if one must be given.
    """

    text: str
    default: Any


def options_of(rule: type[Rule]) -> dict[str, Option]:
    """Return the options of a rule that are documented, by name."""
    texts: dict[str, str] = {}
    for ancestor in reversed(rule.__mro__):
        texts |= entries(ancestor, "Args")
    parameters = inspect.signature(rule).parameters
    return {name: Option(texts[name], p.default) for name, p in parameters.items() if name in texts}


def in_toml(option: Option) -> str:
    """Return the default of an option as a study file would have it."""
    return str(option.default).lower() if isinstance(option.default, bool) else str(option.default)


def entries(documented: type, title: str) -> dict[str, str]:
    """Return the entries of a section of a class's Google-style docstring: name and text."""
    section = re.search(rf"^{title}:\n((?: {{4}}.*(?:\n|$))+)", inspect.getdoc(documented) or "", re.MULTILINE)
    found = re.findall(r"^ {4}(\S[^:\n]*): (.*(?:\n {5,}.*)*)", section[1] if section else "", re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}
