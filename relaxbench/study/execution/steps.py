"""The compiled steps of a study: made once when it begins, and then required of every worker."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from relaxbench.errors import UserError
from relaxbench.problems import Problem
from relaxbench.store.facts import CompiledFacts, EngineFacts
from relaxbench.study.definition.spec import StudySpec
from relaxbench.training.compilation import compiled_step
from relaxbench.training.compiled import CompiledStep, UnfitError
from relaxbench.training.compilers import NoCompilerError
from relaxbench.training.repayment import gain_of

ADVICE = "let other workers train it, or begin another study with --path vectorized"


def lacking(engine: EngineFacts, methods: Iterable[str]) -> list[str]:
    """Return the methods of which an engine does not say yet whether their steps are compiled."""
    known = engine.get("compiled", {})
    return [method for method in methods if method not in known] if engine["path"] == "compiled" else []


def refuse_size(engine: EngineFacts, problem: str, population: int | None) -> None:
    """Check that no other K is asked for than the one for which the steps of a problem are compiled.

    Raises:
        UserError: if one is.
    """
    size = engine["population"]
    if engine["path"] == "compiled" and population not in (None, size):
        raise UserError(
            f"the steps of {problem} are compiled for K = {size}, which the study keeps: leave population {population} "
            "out, or use another storage",
            "population",
            "storage",
        )


def describe_step(spec: StudySpec, problem: Problem, method: str, engine: EngineFacts) -> tuple[CompiledFacts, str]:
    """Compile the step of a method; return what is stored of it, and what a person should know, or "".

    Where nobody asked for the compiled path, a method whose compiled steps are slower than plain ones has plain ones.

    Raises:
        UserError: if nothing can be compiled here.
    """
    rule, size = spec.make_rule(method, problem), engine["population"]
    try:
        step = compiled_step(problem, rule, size, engine["precision"])
    except UnfitError as error:
        return {"reason": str(error), "seconds": 0.0, "digest": ""}, ""
    except NoCompilerError as error:
        raise UserError(f"the steps of {problem.name!r} cannot be compiled: {error}: leave the path out") from error
    seconds = round(step.seconds, 2)
    if engine.get("repayment"):
        gain = gain_of(step, problem, rule, engine["precision"], size, size)
        if gain < 1:
            slower = f"its compiled steps take {1 / gain:.2g} times as long as plain ones"
            return {"reason": slower, "seconds": seconds, "digest": ""}, step.note
    return {"reason": "", "seconds": seconds, "digest": step.digest}, step.note


def step_of(spec: StudySpec, problem: Problem, method: str, engine: EngineFacts) -> CompiledStep | None:
    """Return the compiled step with which a study trains a method; None if it does so by plain operations.

    Raises:
        UserError: if this worker cannot make that step, or if it computes other numbers than the one that the study
            began with.
    """
    known = engine.get("compiled", {}).get(method)
    if engine["path"] != "compiled" or known is None or known["reason"]:
        return None
    what = f"{method} on {problem.name} has compiled steps in this study"
    torch.set_num_threads(engine["threads"])  # the code depends on their number
    try:
        step = compiled_step(problem, spec.make_rule(method, problem), engine["population"], engine["precision"])
    except (NoCompilerError, UnfitError) as error:
        raise UserError(f"{what}, which this worker cannot make: {error}: {_advice(engine)}") from error
    if step.digest != known["digest"]:
        raise UserError(
            f"{what}, and those of this worker compute other last digits than where it began (another processor, "
            f"compiler or version of PyTorch): {_advice(engine)}"
        )
    return step


def _advice(engine: EngineFacts) -> str:
    """Say what to do with a worker that cannot train a study; a study may have chosen its path by itself."""
    return f"{ADVICE} (this one chose to compile, because it is long)" if engine.get("repayment") else ADVICE
