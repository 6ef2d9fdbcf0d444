"""What a rule declares to be searched, and what the study file chooses among it.

A rule has a default space and a wide one, and the settings of its authors. This is the only place that asks for them.
"""

from __future__ import annotations

from typing import Literal

from relaxbench.optim.rule import Rule
from relaxbench.problems import Problem
from relaxbench.space import Space, Value

SpaceName = Literal["default", "wide"]


def declared(rule: type[Rule]) -> Space:
    """Return every hyperparameter of a rule, with the widest range that it declares."""
    wide: Space = getattr(rule, "wide", {})
    return {**rule.space, **wide}


def searched(rule: type[Rule], name: SpaceName) -> Space:
    """Return what a rule searches: around its authors' settings, or everything."""
    return declared(rule) if name == "wide" else rule.space


def nuisance(rule: type[Rule]) -> dict[str, Value]:
    """Return what the default space of a rule does not search, with its authors' values."""
    return dict(getattr(rule, "default_fixed", {}))


def published(rule: type[Rule], problem: Problem) -> dict[str, Value] | None:
    """Return the authors' settings for the problem's kind; None if the rule declares none."""
    settings: dict[str, Value] | None = getattr(rule, "published", None)
    return dict(settings) if settings else None


def has_published(rule: type[Rule]) -> bool:
    """Return whether a rule declares its authors' settings."""
    return bool(getattr(rule, "published", None))
