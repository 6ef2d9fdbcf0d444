"""Load and try the problems of a study, before anything is written."""

from __future__ import annotations

from relaxbench.errors import UserError
from relaxbench.problems import Problem, problem
from relaxbench.study.definition.ladder import rungs
from relaxbench.study.definition.script_tryout import prepare_script
from relaxbench.study.definition.spec import StudySpec
from relaxbench.study.definition.validation import check_on, check_pruners_on
from relaxbench.training.compatibility import try_out
from relaxbench.training.method_fit import why_unfit
from relaxbench.training.precision import Precision


def prepare(spec: StudySpec, download: bool = False, tries: bool = True) -> list[Problem]:
    """Load the problems of a study and their data, and check that they can be trained.

    Args:
        spec: the study.
        download: whether missing data are downloaded.
        tries: whether a training script is tried with every method.

    Returns:
        the problems in the order of the study file, each at every budget of its ladder.

    Raises:
        UserError: if a problem cannot be trained, its data are missing, the budget is too small, or a method cannot
            take a step on a problem.
    """
    if spec.script is not None:
        return _prepared_script(spec, tries)
    problems = [problem(name) for name in spec.problems]
    check_on(spec, [rung for task in problems for rung in rungs(task, spec)])
    _refuse_one_name(problems)
    for task in problems:
        _fetch(task, download, spec.precision)
        for label in spec.methods:
            reason = why_unfit(task, spec.make_rule(label, task))
            if reason:
                raise UserError(
                    f"method {label!r} cannot train problem {task.name!r}: {reason}; or leave {label} out of the "
                    "study, as --skip-unfit does"
                )
    ladder = [rung for task in problems for rung in rungs(task, spec)]
    check_pruners_on(spec, ladder)
    return ladder


def prepare_fit(spec: StudySpec, download: bool = False) -> tuple[StudySpec, list[Problem], dict[str, str]]:
    """Do what `prepare` does, but leave out the methods that cannot train a problem of the study.

    Returns:
        the study with the other methods, its problems, and why each method was left out.

    Raises:
        UserError: if that is the baseline, or if a problem cannot be trained at all.
    """
    if spec.script is not None:
        return spec, _prepared_script(spec), {}
    problems = [problem(name) for name in spec.problems]
    _refuse_one_name(problems)
    unfit: dict[str, str] = {}
    everywhere = " of all problems" if len(problems) > 1 else ""
    for task in problems:
        _fetch(task, download, spec.precision)
        for label in spec.methods:
            if label in unfit:
                continue
            rule = spec.make_rule(label, task)
            flat = f"its loss {task.loss.name!r} has no curvature" if rule.curvature and not task.loss.convex else ""
            if reason := flat or why_unfit(task, rule):
                unfit[label] = f"{label} is left out{everywhere}, because it cannot train {task.name}: {reason}"
    if spec.baseline in unfit:
        raise UserError(f"the baseline cannot be left out: {unfit[spec.baseline]}")
    fit = spec.model_copy(update={"methods": [label for label in spec.methods if label not in unfit]})
    ladder = [rung for task in problems for rung in rungs(task, fit)]
    check_on(fit, ladder)
    check_pruners_on(fit, ladder)
    return fit, ladder, unfit


def _prepared_script(spec: StudySpec, tries: bool = True) -> list[Problem]:
    untried = prepare_script(spec, tries=False)
    check_on(spec, untried)
    check_pruners_on(spec, untried)
    return prepare_script(spec, tries)


def _refuse_one_name(problems: list[Problem]) -> None:
    names = [task.name for task in problems]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two problems are called {name!r}: give each its own name")


def _fetch(task: Problem, download: bool, precision: Precision) -> None:
    """Load a problem's data, and check that it can be trained."""
    if download and task.missing():
        task.download()
    task.fingerprint()
    try_out(task, precision)
