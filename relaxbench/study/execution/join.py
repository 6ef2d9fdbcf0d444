"""Join a stored study: work on what the database holds, or explain why this machine cannot."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sqlalchemy import Engine as Database
from sqlalchemy import select

from relaxbench.errors import UserError, unknown
from relaxbench.problems import problem
from relaxbench.problems.registry import require_known
from relaxbench.store.facts import Manifest, SpecFacts
from relaxbench.store.schema import Study
from relaxbench.store.studies import choose_study
from relaxbench.store.transactions import read
from relaxbench.study.coordination.manifest import edit_manifest
from relaxbench.study.definition.changes import FREE
from relaxbench.study.definition.files import load
from relaxbench.study.definition.identity import (
    edited_notes,
    identify,
    keep_identity,
    keep_measurements,
    refuse_edits,
)
from relaxbench.study.definition.ladder import rung_names, rung_sources, rungs
from relaxbench.study.definition.opening import (
    NO_IDENTITY,
    OpenStudy,
    refuse_changes,
    refuse_protocol,
    refuse_version,
    stored_form,
)
from relaxbench.study.definition.prepare import prepare, prepare_fit
from relaxbench.study.definition.script_problem import problem_of
from relaxbench.study.definition.spec import StudySpec
from relaxbench.study.definition.validation import restore


@dataclass(frozen=True)
class Part:
    """The part of a study that a worker works on.

    Attributes:
        problems: names of its problems, or none for all; also Python files of problems whose files are not where they
            were when the study began.
        methods: its methods, or none for all.
        skip_unfit: whether methods that cannot train a problem here are left to other workers.
    """

    problems: Sequence[str] = ()
    methods: Sequence[str] = ()
    skip_unfit: bool = False


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
    refuse_protocol(row.spec, name)
    refuse_version(row.manifest, name)
    spec, names = _restrict(row.spec, name, row.manifest.get("origins", {}), part)
    unfit: dict[str, str] = {}
    if part.skip_unfit:
        spec, prepared, unfit = prepare_fit(spec)
    else:
        prepared = prepare(spec, tries=False)
    sources = dict(zip((rung.name for rung in prepared), rung_sources(spec), strict=True))
    problems = [rung for rung in prepared if rung.name in names]
    if file:
        own = [rung for source in file.problems for rung in rungs(problem_of(file, source), file)]
        _refuse_differences(row.spec, stored_form(file, own), study)
    refuse_changes(row.manifest, name, problems, device)
    keep_measurements(row.manifest, problems)
    identity = identify(spec, problems, sources, row.manifest)
    refuse_edits(row.manifest, name, identity, spec, problems)
    late = False

    def keep(manifest: Manifest) -> None:
        nonlocal late
        late = keep_identity(manifest, identity)

    edit_manifest(database, row.id, keep)
    notes = [*unfit.values(), *edited_notes(row.manifest, identity), *([NO_IDENTITY] if late else [])]
    return OpenStudy.begin(database, row.id, False, spec, problems, notes)


def _restrict(
    stored: SpecFacts, study: str, origins: Mapping[str, str], part: Part
) -> tuple[StudySpec, Collection[str]]:
    """Return the specification of a part of a study, and the names of its problems in the database.

    The specification names its problems by their files where they have one, and a ladder's problem once.
    """
    files = {
        rung: path
        for path in part.problems
        if path.endswith(".py")
        for rung in rung_names(_name_in(path, stored), stored["budgets"])
    }
    chosen = [rung for name in part.problems if not name.endswith(".py") for rung in _rungs_of(name, stored)]
    kinds = (("problem", [*files, *chosen], stored["problems"]), ("method", part.methods, stored["methods"]))
    for kind, requested, known in kinds:
        for name in requested:
            if name not in known:
                raise unknown(f"{kind} in study {study!r}:", name, known)
    names = [name for name in stored["problems"] if name in (*files, *chosen)] or stored["problems"]
    sources: dict[str, None] = {}
    for name in names:
        origin = files.get(name, origins.get(name, name))
        if origin.endswith(".py") and not Path(origin).is_file():
            raise UserError(
                f"problem {name!r} of study {study!r} is not here at {origin!r}: give its Python file", "problem"
            )
        require_known(origin, study)
        sources[origin] = None
    methods = [label for label in stored["methods"] if label in part.methods] or stored["methods"]
    whole = restore({**stored, "problems": list(sources)}, f"study {study!r}")
    return whole.model_copy(update={"methods": methods}), names


def _name_in(path: str, stored: SpecFacts) -> str:
    """Return the name of the problem in a file: what the file calls it, or the study, if it is a training script."""
    script = stored.get("script")
    return str(script["name"]) if script else problem(path).name


def _rungs_of(name: str, stored: SpecFacts) -> list[str]:
    """Return the problems that a name stands for: itself, or all rungs of a ladder."""
    rungs = [rung for rung in rung_names(name, stored.get("budgets", [])) if rung in stored["problems"]]
    return rungs if name not in stored["problems"] and rungs else [name]


def _refuse_differences(stored: Mapping[str, Any], requested: Mapping[str, Any], file: str) -> None:
    """Raise if a study file asks for another study than the stored one."""
    keys = sorted((stored.keys() | requested.keys()) - {*FREE, "controls"})
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
