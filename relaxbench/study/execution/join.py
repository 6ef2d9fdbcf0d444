"""Joining a study that is in the database: a worker runs what is stored there, or says why it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import select

from relaxbench.errors import UserError, unknown
from relaxbench.problems import problem
from relaxbench.store.schema import Study
from relaxbench.store.studies import choose_study
from relaxbench.store.transactions import read
from relaxbench.study.coordination.plan import plans
from relaxbench.study.definition import opening
from relaxbench.study.definition.prepare import prepare
from relaxbench.study.definition.spec import FREE, StudySpec, load, parse
from relaxbench.study.execution.run import Opened


def join(
    database: Database, study: str, device: str = "auto", asked: Sequence[str] = (), methods: Sequence[str] = ()
) -> Opened:
    """A study that somebody has begun, all of its problems and methods.

    Args:
        database: from `store.database.open_database`.
        study: its name, or the path of a study file (``….toml``) that has to say what is stored.
        device: as for `run.StudyRun`.
        asked: names of its problems, if only some are to be worked on; or Python files of problems that do not lie here
            where they lay when the study began.
        methods: its methods, if only some are to be worked on.

    Raises:
        UserError: if it does not exist, was made by another version of relaxbench or from another study file, or a
            problem or its data are not here or others.
    """
    file = load(Path(study), {})[0] if study.endswith(".toml") else None
    name = file.name if file else study
    query = select(Study.id, Study.name, Study.spec, Study.manifest)
    rows = {row.name: row for row in read(database, lambda connection: connection.execute(query).all())}
    row = rows[choose_study(rows, name)]
    opening.refuse_version(row.manifest, name)
    spec = _part(parse(row.spec, f"study {name!r}"), row.manifest.get("origins", {}), asked, methods)
    problems = prepare(spec, device)
    if file:
        _refuse_differences(row.spec, opening.stored_form(file, [problem(given) for given in file.problems]), study)
    opening.refuse_changes(row.manifest, name, problems, device)
    planned = plans(database, row.id, [each.name for each in problems], spec.methods)
    for plan in planned:
        plan.begin()  # whoever began the study may have been stopped before this
    return Opened(row.id, False, spec, problems, planned)


def _part(spec: StudySpec, origins: dict[str, str], asked: Sequence[str], methods: Sequence[str]) -> StudySpec:
    """The specification of what is to be worked on, with problems named by where they are found here."""
    files = {problem(given).name: given for given in asked if given.endswith(".py")}
    names = [given for given in asked if not given.endswith(".py")]
    for kind, given, known in (("problem", [*files, *names], spec.problems), ("method", methods, spec.methods)):
        for name in given:
            if name not in known:
                raise unknown(f"{kind} in study {spec.name!r}:", name, known)
    found = []
    for name in [name for name in spec.problems if name in names] or spec.problems:
        origin = files.get(name, origins.get(name, name))
        if origin.endswith(".py") and not Path(origin).is_file():
            raise UserError(
                f"problem {name!r} of study {spec.name!r} is not here at {origin!r}: give --problem FILE.py"
            )
        found.append(origin)
    mine = [label for label in spec.methods if label in methods] or spec.methods
    return spec.model_copy(update={"problems": found, "methods": mine})


def _refuse_differences(stored: dict[str, Any], asked: dict[str, Any], file: str) -> None:
    keys = sorted((stored.keys() | asked.keys()) - {*FREE})
    differences = [
        f"{key}: stored {_plain(stored.get(key))}, in the file {_plain(asked.get(key))}"
        for key in keys
        if stored.get(key) != asked.get(key)
    ]
    if differences:
        raise UserError(
            f"the stored study {stored['name']!r} is not the one of {file} ({'; '.join(differences)}): join by its "
            "name, or extend it with python -m relaxbench study"
        )


def _plain(value: Any) -> str:
    """A value of a study file as it is read in a sentence."""
    if value is None:
        return "the problem's own"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
