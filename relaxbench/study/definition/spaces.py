"""What a study searches for a method on a problem, and what it keeps fixed: every hyperparameter is one of the two.

The rule declares a default space, a wide one and published settings; the problem, the study file and the method's own
table may replace ranges. `docs/spaces.md` argues the ranges of every rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from relaxbench.errors import UserError
from relaxbench.optim.hyper import defaults
from relaxbench.optim.rule import Rule
from relaxbench.optim.wrapped.arguments import Option
from relaxbench.problems import Problem
from relaxbench.space import Choice, Space, Value
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
        options: of the rule's constructor, as the method's table states them.
    """

    rule: type[Rule]
    arm: Literal["tuned", "published"] = "tuned"
    space: SpaceName | Mapping[str, Bounds] = "default"
    fixed: Mapping[str, Value] = field(default_factory=dict)
    study: Mapping[str, Bounds] = field(default_factory=dict)
    options: Mapping[str, Option] = field(default_factory=dict)


def space_of(search: Search, problem: Problem) -> Space:
    """Return what is searched, in the order of the rule's wide space; empty for an arm as published.

    Later ranges replace earlier ones: the rule's, the problem's, the study's, the method's own. A range for a
    hyperparameter that the default space fixes makes it searched. Where theory limits a default range (`Rule.limited`),
    the problem's range only narrows it.
    """
    fixed = fixed_of(search, problem)
    ranges = _ranges(search, problem)
    chosen = search.rule.wide if search.space == "wide" else search.rule.space
    return {
        name: narrow(widest, name, ranges[name]) if name in ranges else chosen.get(name, widest)
        for name, widest in search.rule.wide.items()
        if name not in fixed
    }


def fixed_of(search: Search, problem: Problem) -> dict[str, Value]:
    """Return what is not searched, with its value.

    Later values replace earlier ones: those of the default space (or of the publication for the problem's kind), the
    problem's, the method's own. What has no effect with the method's options is not searched in any space.

    Raises:
        UserError: for an arm as published of a rule without published settings.
    """
    rule = search.rule
    if search.arm == "published" and not rule.publications:
        raise UserError(
            f'method {rule.name!r} has no published settings: leave out arm = "published", so that it is tuned'
        )
    kept: dict[str, Value] = {}
    if search.arm == "published":
        kept = dict(rule.published_for(problem.kind))
    elif search.space != "wide":
        ranges = _ranges(search, problem)
        kept = {name: value for name, value in rule.default_fixed.items() if name not in ranges}
    idle = {name: rule.wide[name].default for name in without_effect(rule, search.options)}
    shared = {name: value for name, value in problem.fixed.items() if name in rule.wide}
    return {**idle, **kept, **shared, **search.fixed}


def options_of(search: Search, problem: Problem) -> dict[str, Option]:
    """Return the options of the rule's constructor that belong to the published settings; empty for a tuned arm."""
    publication = search.rule.publication(problem.kind)
    return dict(publication.options) if publication and search.arm == "published" else {}


def without_effect(rule: type[Rule], options: Mapping[str, Option]) -> dict[str, str]:
    """Return the hyperparameters that have no effect with options of a rule, and the option that overrules each."""
    return {name: option for name, option in rule.overruled.items() if options.get(option)}


def typical(search: Search, problem: Problem) -> dict[str, Value]:
    """Return a value for every hyperparameter: the fixed ones, and defaults of those that are searched."""
    return {**defaults(search.rule.wide), **defaults(space_of(search, problem)), **fixed_of(search, problem)}


def _ranges(search: Search, problem: Problem) -> dict[str, Bounds]:
    """The ranges that replace the rule's."""
    theirs: dict[str, Bounds] = {}
    for name, (low, high) in problem.space.items():
        if search.space == "wide" or name not in search.rule.limited:
            theirs[name] = [low, high]
        elif name in search.rule.space:
            declared = search.rule.space[name]
            if not isinstance(declared, Choice) and max(low, declared.low) < min(high, declared.high):
                theirs[name] = [max(low, declared.low), min(high, declared.high)]
    own: Mapping[str, Bounds] = {} if isinstance(search.space, str) else search.space
    return {**theirs, **search.study, **own}
