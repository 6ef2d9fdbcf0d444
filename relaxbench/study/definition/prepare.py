"""Load and try the problems of a study, before anything is written."""

from __future__ import annotations

from relaxbench.errors import UserError
from relaxbench.problems import Problem, problem
from relaxbench.study.definition.ladder import rungs
from relaxbench.study.definition.spec import StudySpec
from relaxbench.study.definition.validation import check_on
from relaxbench.training.compatibility import try_out


def prepare(spec: StudySpec, download: bool = False) -> list[Problem]:
    """Load the problems of a study and their data, and check that they can be trained.

    Args:
        spec: the study.
        download: whether missing data are downloaded.

    Returns:
        the problems in the order of the study file, each at every budget of its ladder.

    Raises:
        UserError: if a problem cannot be trained, its data are missing, or the budget is too small.
    """
    problems = [problem(name) for name in spec.problems]
    check_on(spec, [rung for task in problems for rung in rungs(task, spec)])
    names = [task.name for task in problems]
    for task in problems:
        if names.count(task.name) > 1:
            raise UserError(f"two problems are called {task.name!r}: give each its own name")
        if download and task.missing():
            task.download()
        task.fingerprint()
        try_out(task)
    return [rung for task in problems for rung in rungs(task, spec)]
