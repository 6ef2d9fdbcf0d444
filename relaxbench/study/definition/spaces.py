"""What a study searches for a method on a problem, and what it keeps fixed: every hyperparameter is one of the two.

The rule declares a default space, a wide one and published settings; the problem, the study file and the method's own
table may replace ranges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from relaxbench.optim.hyper import defaults
from relaxbench.optim.rule import Rule
from relaxbench.problems import Problem
from relaxbench.space import Space, Value
from relaxbench.study.definition.ranges import Bounds, narrow

SpaceName = Literal["default", "wide"]


@dataclass(frozen=True)
class Search:
    """How a method of a study is tuned.

    Attributes:
        rule: its mathematics.
        arm: ``"tuned"``, or ``"published"``: the authors' settings, without any search.
        space: ``"default"``, ``"wide"``, or ranges that replace those of the default space.
        fixed: values of hyperparameters that are not searched.
        study: ranges that the study file gives for all methods.
    """

    rule: type[Rule]
    arm: Literal["tuned", "published"] = "tuned"
    space: SpaceName | Mapping[str, Bounds] = "default"
    fixed: Mapping[str, Value] = field(default_factory=dict)
    study: Mapping[str, Bounds] = field(default_factory=dict)


def declared(rule: type[Rule]) -> Space:
    """Return every hyperparameter of a rule, with the widest range that it declares."""
    return getattr(rule, "wide", rule.space)


def space_of(search: Search, problem: Problem) -> Space:
    """Return what is searched; empty for an arm as published.

    Later ranges replace earlier ones: the rule's, the problem's, the study's, the method's own. A range for a
    hyperparameter that the default space fixes makes it searched.
    """
    fixed, widest = fixed_of(search, problem), declared(search.rule)
    ranges = _ranges(search, problem)
    chosen = widest if search.space == "wide" else search.rule.space
    return {
        name: narrow(chosen.get(name, range_), name, ranges[name]) if name in ranges else chosen.get(name, range_)
        for name, range_ in widest.items()
        if name not in fixed
    }


def fixed_of(search: Search, problem: Problem) -> dict[str, Value]:
    """Return what is not searched, with its value.

    Later values replace earlier ones: those of the default space (or the published ones), the problem's, the method's.
    """
    rule, kept = search.rule, dict[str, Value]()
    if search.arm == "published":
        kept = dict(getattr(rule, "published", {}))
    elif search.space != "wide":
        ranges = _ranges(search, problem)
        kept = {name: value for name, value in getattr(rule, "default_fixed", {}).items() if name not in ranges}
    shared = {name: value for name, value in problem.fixed.items() if name in declared(rule)}
    return {**kept, **shared, **search.fixed}


def options_of(search: Search, problem: Problem) -> dict[str, bool | int]:
    """Return the options of the rule's constructor that belong to the published settings; empty for a tuned arm."""
    return {}


def typical(search: Search, problem: Problem) -> dict[str, Value]:
    """Return a value for every hyperparameter: the fixed ones, and defaults of those that are searched."""
    return {**defaults(declared(search.rule)), **defaults(space_of(search, problem)), **fixed_of(search, problem)}


def _ranges(search: Search, problem: Problem) -> dict[str, Bounds]:
    """The ranges that replace the rule's."""
    theirs: dict[str, Bounds] = {name: list(bounds) for name, bounds in problem.space.items()}
    own: Mapping[str, Bounds] = {} if isinstance(search.space, str) else search.space
    return {**theirs, **search.study, **own}
