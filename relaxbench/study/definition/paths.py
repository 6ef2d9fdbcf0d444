"""The path on which the trials of a study are trained, where a person asks for one."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from relaxbench.errors import UserError, unknown
from relaxbench.problems import Problem
from relaxbench.store.facts import Manifest
from relaxbench.study.definition.script_problem import LoopProblem
from relaxbench.study.definition.spec import StudySpec
from relaxbench.training.compilation import record
from relaxbench.training.compiled import UnfitError
from relaxbench.training.engine import WISHES, Wish, cannot_be_trained


def refuse_path(manifest: Manifest, name: str, problems: Sequence[Problem], path: Wish) -> None:
    """Check that no other path is asked for than the one on which a problem's trials are trained.

    Raises:
        UserError: if one is.
    """
    for problem in problems:
        engine = manifest.get("engines", {}).get(problem.name)
        if engine and engine["path"] != "script" and path not in ("auto", engine["path"]):
            raise UserError(
                f"study {name!r} trains {problem.name} on the {engine['path']} path since it began, not on the {path} "
                "one: leave the path out, or use another storage",
                "path",
                "storage",
            )


def keep_path(manifest: Manifest, path: Wish) -> None:
    """Store which path is asked for, for problems that have no engine yet."""
    if path != "auto":
        manifest["path"] = path


def parse_path(name: str) -> Wish:
    """Return the path of a name.

    Raises:
        UserError: if there is none.
    """
    for wish in WISHES:
        if name == wish:
            return wish
    raise unknown("path", name, WISHES)


def refuse_problems(spec: StudySpec, problems: Sequence[Problem], device: torch.device, path: Wish) -> None:
    """Check that the problems can be trained on the path that is asked for; the compiled one records a step of SGD.

    Raises:
        UserError: for the first problem that cannot.
    """
    for problem in problems if path != "auto" else ():
        if isinstance(problem, LoopProblem):
            raise UserError(f"problem {problem.name!r} is a script, which has no path: leave the path out", "path")
        cannot_be_trained(problem, device, path)
        if path == "compiled":
            rule = spec.make_rule(spec.baseline, problem)
            try:
                record(problem, rule, 2, spec.precision)
            except UnfitError as error:
                reason = f"the step of {spec.baseline!r} on problem {problem.name!r} cannot be compiled: {error}"
                raise UserError(f"{reason}: leave the path out, or take another", "path") from error
