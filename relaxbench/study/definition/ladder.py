"""A ladder of budgets: every rung is a problem of its own, ``NAME@BUDGET``, which all else treats like any other."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from relaxbench.problems import Problem
from relaxbench.study.definition.spec import StudySpec

SEPARATOR = "@"


def rungs(problem: Problem, spec: StudySpec) -> list[Problem]:
    """Return the problem at every budget of the study's ladder; at the study's budget without a ladder.

    The rungs share the problem's data, as far as it has loaded them.
    """
    if spec.budgets:
        return [_at(problem, budget) for budget in spec.budgets]
    alone = problem
    if spec.budget_of(problem) != problem.budget:  # measurements adapt to the budget
        alone = copy.copy(problem)
        alone.budget = spec.budget_of(problem)
    return [alone]


def rung_sources(spec: StudySpec) -> list[str]:
    """Return where the problem of every rung comes from, in the order of `prepare`: a name, or the path of a file."""
    return [source for source in spec.problems for _ in spec.budgets or (None,)]


def base_name(problem: Problem) -> str:
    """Return the name of the problem that a rung belongs to."""
    return problem.name.rpartition(SEPARATOR)[0] or problem.name


def rung_names(name: str, budgets: Sequence[int]) -> list[str]:
    """Return the names of a problem's rungs; its own name without a ladder."""
    return [f"{name}{SEPARATOR}{budget}" for budget in budgets] or [name]


def _at(problem: Problem, budget: int) -> Problem:
    rung = copy.copy(problem)
    (rung.name,) = rung_names(problem.name, [budget])
    rung.title, rung.budget = f"{problem.title}, {budget:,} gradients", budget
    if problem.tolerance is not None:
        rung.worst_metric = float(budget)  # the metric counts gradients
    return rung
