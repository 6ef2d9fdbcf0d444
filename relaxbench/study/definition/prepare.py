"""Before a study: its problems, with their data, tried out."""

from __future__ import annotations

from relaxbench.errors import UserError
from relaxbench.problems import Problem, problem
from relaxbench.study.definition.spec import StudySpec
from relaxbench.training.compatibility import try_out
from relaxbench.training.devices import torch_device


def prepare(spec: StudySpec, device: str, download: bool = False) -> list[Problem]:
    """The problems of a study, their data at hand. What cannot run is refused here, before anything is written.

    Args:
        spec: the study.
        device: as for `run.StudyRun`.
        download: fetch data that are missing.

    Raises:
        UserError: for a problem, data, device or budget that does not do.
    """
    torch_device(device)
    problems = [problem(name) for name in spec.problems]
    spec.check_on(problems)
    names = [each.name for each in problems]
    for each in problems:
        if names.count(each.name) > 1:
            raise UserError(f"two problems are called {each.name!r}: give each a name of its own")
        if download and each.missing():
            each.download()
        each.fingerprint()
        try_out(each)
    return problems
