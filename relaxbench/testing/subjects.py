"""Find the rules and problems to check by name: built in, of another package, or in a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from relaxbench import plugins
from relaxbench.errors import UserError, unknown
from relaxbench.optim.registry import ignored_rules, is_rule, rule_class, rule_names
from relaxbench.optim.rule import Rule
from relaxbench.optim.wrapped.locate import is_path
from relaxbench.optim.wrapped.rule import WrappedRule
from relaxbench.problems import Problem, problem, problem_names
from relaxbench.problems.registry import ignored_problems, takes_data
from relaxbench.testing.problems import ProblemConformance
from relaxbench.testing.rules import RuleConformance


@dataclasses.dataclass(frozen=True)
class Subject:
    """A rule or a problem to check.

    Attributes:
        kind: ``"method"`` or ``"problem"``.
        name: its name.
        suite: an object whose ``test_…`` methods are its checks.
        missing: which data it lacks, so that it cannot be checked, or "".
        broken: why it cannot be made at all, or "".
    """

    kind: str
    name: str
    suite: RuleConformance | ProblemConformance | None
    missing: str = ""
    broken: str = ""

    @property
    def caution(self) -> str:
        """What holds of it beside all checks, or "": another package's one of its name, or that nothing is searched."""
        ignored = ignored_rules() if self.kind == "method" else ignored_problems()
        if self.name in ignored:
            return ignored[self.name]
        rule = getattr(self.suite, "rule", None)
        told = rule.unsearched(rule.space) if isinstance(rule, type) and issubclass(rule, WrappedRule) else None
        return told or ""


def everything() -> list[Subject]:
    """Return all rules and problems that `list` shows; for a network with a small variant, that variant alone."""
    names = problem_names()
    rules = [_made("method", _rule, name) for name in rule_names()]
    problems = (_made("problem", _built, name) for name in names if f"{name}-small" not in names)
    return [*rules, *problems]


def _made(kind: str, make: Callable[[str], Subject], name: str) -> Subject:
    """Return a subject, or why another package's one of this name cannot be made: the rest is checked all the same."""
    try:
        return make(name)
    except UserError as error:
        return Subject(kind, name, None, broken=str(error))


def _built(name: str) -> Subject:
    return dataclasses.replace(_problem(name, name), missing=problem(name).missing())


def subjects(name: str) -> list[Subject]:
    """Return the rules and problems of a name; a file may define several rules and a problem.

    Raises:
        UserError: for an unknown name, and for a file with neither a rule nor a problem.
    """
    if name.endswith(".py") and not is_path(name):
        return list(_in_file(Path(name)))
    named = [_rule(name)] if is_rule(name) else []
    named += [_problem(name, name)] if name in problem_names() or takes_data(name) else []
    if not named:
        hint = "python -m relaxbench list shows all; a file's path ends in .py"
        raise unknown("method or problem", name, [*rule_names(), *problem_names()], hint)
    return named


def _in_file(path: Path) -> Iterator[Subject]:
    what = "a subclass of relaxbench's Rule, or `problem`"
    module = plugins.run_file(path, "plugin", what)
    classes = [value for value in vars(module).values() if isinstance(value, type)]
    rules = [cls for cls in classes if issubclass(cls, Rule) and cls.__module__ == module.__name__]
    problem = getattr(module, "problem", None)
    if not rules and not isinstance(problem, Problem):
        raise UserError(f"plugin file {str(path)!r} has neither a rule nor a problem: it must define {what}")
    for rule in rules:
        yield Subject("method", getattr(rule, "name", rule.__name__), _suite(RuleConformance, "rule", rule))
    if isinstance(problem, Problem):
        yield _problem(problem.name, str(path))


def _rule(name: str) -> Subject:
    return Subject("method", name, _suite(RuleConformance, "rule", rule_class(name)))


def _problem(name: str, source: str) -> Subject:
    return Subject("problem", name, _suite(ProblemConformance, "problem", source))


def _suite(base: type, attribute: str, value: Any) -> Any:
    return type(base.__name__, (base,), {attribute: value})()
