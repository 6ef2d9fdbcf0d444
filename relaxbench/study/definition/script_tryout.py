"""Try a training script once for every method, before anything is written: whether it bills, reports and tests."""

from __future__ import annotations

import math
from pathlib import Path

from relaxbench.errors import UserError
from relaxbench.loop.runs import Host, Told
from relaxbench.problems import Problem
from relaxbench.study.definition.ladder import rungs
from relaxbench.study.definition.script_problem import LoopProblem, Measured, problem_of
from relaxbench.study.definition.script_table import Script, script_middle
from relaxbench.study.definition.spec import StudySpec
from relaxbench.util.seeds import derive

SHARE, LEAST = 0.02, 10
"""Budget of a try-out: a share of that of a run, and at least so many gradients of it, of which an iteration may take
several."""
UNSTEADY = "Two runs with the same seed reported different numbers, so its results depend on more than the seed."
"""What is said of a script whose runs cannot be repeated."""


def prepare_script(spec: StudySpec, tries: bool = True) -> list[Problem]:
    """Read the script of a study, and try it with every method.

    Args:
        spec: the study.
        tries: whether it is tried; another process has done so for a study that has begun.

    Returns:
        the script at every budget of the study.

    Raises:
        UserError: if the script fails, or misses what a study needs, naming the method and what is missing.
    """
    own = problem_of(spec, spec.problems[0])
    assert isinstance(own, LoopProblem) and spec.script is not None
    own.budget = min(spec.budgets) if spec.budgets else spec.budget or 1
    if tries:
        with Host(own.path, silence=spec.script.silence) as host:
            for label in spec.methods:
                told = _tried(own, spec, label, host)
                if label == spec.baseline and not _same(told, _tried(own, spec, label, host)):
                    own.caution = f"{own.caution} {UNSTEADY}"
    return rungs(own, spec)


def _tried(own: LoopProblem, spec: StudySpec, label: str, host: Host) -> Told:
    """Try the script with a method in the middle of its ranges.

    Raises:
        UserError: if it fails, or misses something.
    """
    budget = min(own.budget, max(LEAST, math.ceil(SHARE * own.budget)))
    job = own.job(label, script_middle(spec, label), derive(spec.seed, "try-out"), "try-out", budget)
    told = host.run(job)
    reason = why_unfit(told, own.script)
    if not reason and not told.asked and (pruner := spec.sampling_of(label).get("pruner")):
        reason = (
            f"pruner {pruner['name']!r} is to stop its trials, but it never asks trial.should_prune(): ask after every "
            "report, and end the script if it is true; or leave the pruner out"
        )
    if not reason and not told.diverged and told.test is not None and not math.isfinite(told.test):
        reason = f"trial.test(…) gives {told.test:g}, although what it reports is finite: look at the test data"
    if reason:
        raise UserError(f"script `{Path(own.path).name}` with method {label!r}: {reason}")
    each = told.seconds / told.gradients if told.gradients else told.wall_seconds / max(1.0, told.billed)
    start = max(0.0, told.wall_seconds - each * told.billed)
    own.measured[label] = Measured(each, start, told.peak_bytes)
    return told


def why_unfit(told: Told, script: Script) -> str:
    """Return why a run's results cannot be used, in one line; "" if they can. A run that has diverged can."""
    if told.error:
        return told.error
    if not told.billed:
        return _unbilled(told)
    if told.diverged:
        return ""
    if not told.points:
        return "it reports nothing: call trial.report(validation=…) when trial.due(), and at the end"
    for what, value in [*(("report(validation", p["validation"]) for p in told.points), ("test(", told.test)]:
        if value is not None and script.distance(value) < 0:
            shown = f"trial.{what.rstrip('(')}(…) " if what == "test(" else f"trial.{what}={value:g}) "
            return (
                f"{shown}gives {value:g}, better than the best possible {script.metric}, {script.best or 0:g}: state "
                "`best` in [script], or report another metric"
            )
    given = {"loss" in point for point in told.points}
    if len(given) > 1:
        return "trial.report() has a loss sometimes and sometimes none: trials could not be compared by it"
    if True in given and script.worst_loss is None:
        return "it reports a loss, by which trials are chosen: state that of a diverged run, worst_loss, in [script]"
    if given == {False} and script.worst_loss is not None:
        return "[script] states worst_loss, but trial.report() has no loss: leave worst_loss out, or report one"
    if not (told.tested or told.pruned):
        return "it never calls trial.test(…), so nothing could be confirmed: call it last"
    return ""


def _unbilled(told: Told) -> str:
    """Why a run has billed nothing, and what to do."""
    call = "call trial.bill(gradients=1) after every backward pass"
    if not told.taken:
        return "it never calls relaxbench.trial(), which gives it its params, seed and budget: call it first"
    if told.diverged:
        return f"it ends by trial.diverged(), or a report that is not finite, before it bills a gradient: {call}"
    return f"it ends by sys.exit() before it bills a gradient: {call}" if told.left else f"it bills no gradient: {call}"


def _same(one: Told, other: Told) -> bool:
    """Whether two runs reported and tested the same."""
    return (repr(one.points), repr(one.test), one.billed) == (repr(other.points), repr(other.test), other.billed)
