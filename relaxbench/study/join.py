"""Joining a study that is in the database: a worker runs what is stored there, or says why it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import select

from relaxbench.errors import UserError, unknown
from relaxbench.problems import problem
from relaxbench.store.schema import Study
from relaxbench.store.transactions import read
from relaxbench.study import record
from relaxbench.study.prepare import prepare
from relaxbench.study.run import Opened
from relaxbench.study.spec import FREE, StudySpec, load, parse
from relaxbench.study.trials import plans


def join(database: Database, study: str, device: str = "auto", files: list[str] | None = None) -> Opened:
    """A study that somebody has begun, all of its problems and methods.

    Args:
        database: from `store.database.open_database`.
        study: its name, or the path of a study file (``….toml``) that has to say what is stored.
        device: as for `run.StudyRun`.
        files: Python files of problems that do not lie here where they lay when the study began.

    Raises:
        UserError: if it does not exist, was made by another version of relaxbench or from another study file, or a
            problem or its data are not here or others.
    """
    asked = load(Path(study), {})[0] if study.endswith(".toml") else None
    name = asked.name if asked else study
    query = select(Study.id, Study.name, Study.spec, Study.manifest)
    rows = {row.name: row for row in read(database, lambda connection: connection.execute(query).all())}
    if name not in rows:
        raise unknown("study", name, rows) if rows else UserError(f"unknown study {name!r}: there is none yet")
    row = rows[name]
    record.refuse_version(row.manifest, name)
    spec = _with_files(parse(row.spec, f"study {name!r}"), row.manifest.get("origins", {}), files or [])
    problems = prepare(spec, device)
    if asked:
        _refuse_differences(row.spec, record.stored_form(asked, [problem(given) for given in asked.problems]), study)
    record.refuse_changes(row.manifest, name, problems, device)
    planned = plans(database, row.id)
    for plan in planned:
        plan.begin()  # whoever began the study may have been stopped before this
    return Opened(row.id, False, spec, problems, planned)


def _with_files(spec: StudySpec, origins: dict[str, str], files: list[str]) -> StudySpec:
    """The specification with problems named by where they are found here."""
    given = {problem(file).name: file for file in files}
    for name in given:
        if name not in spec.problems:
            raise unknown(f"problem in study {spec.name!r}:", name, spec.problems)
    found = [given.get(name, origins.get(name, name)) for name in spec.problems]
    for name, origin in zip(spec.problems, found, strict=True):
        if origin.endswith(".py") and not Path(origin).is_file():
            raise UserError(
                f"problem {name!r} of study {spec.name!r} is not here at {origin!r}: give --problem FILE.py"
            )
    return spec.model_copy(update={"problems": found})


def _refuse_differences(stored: dict[str, Any], asked: dict[str, Any], file: str) -> None:
    keys = sorted((stored.keys() | asked.keys()) - {*FREE})
    differences = [f"{key}: {stored.get(key)} → {asked.get(key)}" for key in keys if stored.get(key) != asked.get(key)]
    if differences:
        raise UserError(
            f"the stored study {stored['name']!r} is not the one of {file} ({'; '.join(differences)}): join by its "
            "name, or extend it with python -m relaxbench study"
        )
