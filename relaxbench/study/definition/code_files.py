"""The texts of files that a study depends on: a message quotes the line that was edited."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from relaxbench.optim.registry import RULES
from relaxbench.optim.rule import Rule
from relaxbench.optim.wrapped.rule import WrappedRule

LONGEST = 50_000
"""Longest file, in characters, whose text is stored."""
MOST = 20
"""Modules beside a file whose texts are stored."""
FOREIGN = ("site-packages", "dist-packages")
"""Folders of installed packages."""


def text_of(file: Path) -> str:
    """Return the text of a Python file, for messages; "" if there is none."""
    if file.suffix != ".py":
        return ""
    try:
        return file.read_text(encoding="utf-8")[:LONGEST]
    except (OSError, UnicodeDecodeError):
        return ""


def rule_file(rule: type[Rule]) -> Path | None:
    """Return the file of a rule, or of the optimizer that it wraps, that a person may edit; None for built-in ones."""
    if rule in RULES.values():
        return None
    if issubclass(rule, WrappedRule):
        file, _, _ = rule.recipe.path.rpartition(":")
        return Path(file) if file.endswith(".py") else None
    if rule.__module__ == "__main__":  # of a notebook or a program, of which workers have copies without a file
        return None
    try:
        return Path(inspect.getsourcefile(rule) or "")
    except (OSError, TypeError):  # its module is not imported here, as in a worker that has a copy of the class
        return None


def modules_beside(source: str) -> dict[str, str]:
    """Return the texts of the modules beside a problem's file, or below its folder, that are loaded, by their paths."""
    file = Path(source).resolve()
    if file.suffix != ".py":
        return {}
    texts, here = {}, f"{file.parent}/"
    for module in list(sys.modules.values()):
        place = getattr(module, "__file__", None)
        # Thousands of modules are loaded: a text is compared before a Path is made.
        if not place or not place.startswith(here) or not place.endswith(".py"):
            continue
        path = Path(place).relative_to(file.parent)
        hidden = any(part in FOREIGN or part.startswith(".") for part in path.parts)
        if not hidden and path.parts[0] not in ("relaxbench", "tests") and Path(place) != file:
            texts[str(path)] = text_of(Path(place))
    return dict(sorted(texts.items())[:MOST])
