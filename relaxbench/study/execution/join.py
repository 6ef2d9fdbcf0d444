"""Join a stored study: work on what the database holds, or explain why this machine cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sqlalchemy import Engine as Database
from sqlalchemy import select

from relaxbench.errors import UserError, unknown
from relaxbench.problems import problem
from relaxbench.store.schema import Study
from relaxbench.store.studies import choose_study
from relaxbench.store.transactions import read
from relaxbench.study.definition.changes import FREE
from relaxbench.study.definition.files import load
from relaxbench.study.definition.opening import OpenStudy, refuse_changes, refuse_version, stored_form
from relaxbench.study.definition.prepare import prepare
from relaxbench.study.definition.spec import StudySpec
from relaxbench.study.definition.validation import parse


@dataclass(frozen=True)
class Part:
    """The part of a study that a worker works on.

    Attributes:
        problems: names of its problems, or none for all; also Python files of problems whose files are not where they
            were when the study began.
        methods: its methods, or none for all.
    """

    problems: Sequence[str] = ()
    methods: Sequence[str] = ()


def join(database: Database, study: str, device: torch.device | None = None, part: Part = Part()) -> OpenStudy:
    """Open a study that another process has begun.

    Args:
        database: from `store.database.open_database`.
        study: its name, or the path of a study file (``….toml``), which must then agree with what is stored.
        device: see `RunOptions.device`.
        part: what to work on.

    Raises:
        UserError: if the study does not exist, began with another version of relaxbench or from another study file, or
            if a problem or its data are missing here or differ.
    """
    file = load(Path(study))[0] if study.endswith(".toml") else None
    name = file.name if file else study
    query = select(Study.id, Study.name, Study.spec, Study.manifest)
    rows = {row.name: row for row in read(database, lambda connection: connection.execute(query).all())}
    row = rows[choose_study(rows, name)]
    refuse_version(row.manifest, name)
    spec = _restrict(parse(row.spec, f"study {name!r}"), row.manifest.get("origins", {}), part)
    problems = prepare(spec)
    if file:
        _refuse_differences(row.spec, stored_form(file, [problem(name) for name in file.problems]), study)
    refuse_changes(row.manifest, name, problems, device)
    return OpenStudy.begin(database, row.id, False, spec, problems)


def _restrict(spec: StudySpec, origins: Mapping[str, str], part: Part) -> StudySpec:
    """Return the specification of a part of a study. Its problems are named by their files where they have one."""
    files = {problem(path).name: path for path in part.problems if path.endswith(".py")}
    names = [name for name in part.problems if not name.endswith(".py")]
    kinds = (("problem", [*files, *names], spec.problems), ("method", part.methods, spec.methods))
    for kind, requested, known in kinds:
        for name in requested:
            if name not in known:
                raise unknown(f"{kind} in study {spec.name!r}:", name, known)
    problems = []
    for name in [name for name in spec.problems if name in names] or spec.problems:
        origin = files.get(name, origins.get(name, name))
        if origin.endswith(".py") and not Path(origin).is_file():
            raise UserError(
                f"problem {name!r} of study {spec.name!r} is not here at {origin!r}: give its Python file", "problem"
            )
        problems.append(origin)
    methods = [label for label in spec.methods if label in part.methods] or spec.methods
    return spec.model_copy(update={"problems": problems, "methods": methods})


def _refuse_differences(stored: Mapping[str, Any], requested: Mapping[str, Any], file: str) -> None:
    """Raise if a study file asks for another study than the stored one."""
    keys = sorted((stored.keys() | requested.keys()) - {*FREE})
    differences = [
        f"{key}: stored {_plain(stored.get(key))}, in the file {_plain(requested.get(key))}"
        for key in keys
        if stored.get(key) != requested.get(key)
    ]
    if differences:
        raise UserError(
            f"the stored study {stored['name']!r} is not the one of {file} ({'; '.join(differences)}): join by its "
            "name, or extend it with python -m relaxbench study"
        )


def _plain(value: object) -> str:
    """Format a value of a study file for a sentence."""
    if value is None:
        return "the problem's own"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
