"""The study's own row: what was asked, on which machine, with which engines; and whether it may go on."""

from __future__ import annotations

import datetime as dt
import subprocess
import uuid
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, insert, select, update
from sqlalchemy import Engine as Database

from relaxbench.errors import UserError
from relaxbench.problems import Problem
from relaxbench.store.facts import Circumstances, MachineFacts, Manifest, method_facts
from relaxbench.store.schema import Study
from relaxbench.store.transactions import write
from relaxbench.study.definition.facts import describe_method, describe_problem
from relaxbench.study.definition.spec import FREE, StudySpec, changes, parse
from relaxbench.training.devices import machine, torch_device
from relaxbench.version import __version__


def open_study(
    database: Database, spec: StudySpec, source: str, problems: list[Problem], device: str
) -> tuple[int, StudySpec, bool]:
    """The id of a study, its specification (extended if the stored one can be), and whether it is new.

    Its manifest then describes the problems and methods, so that its trials can be planned from the row alone.

    Raises:
        UserError: if a study of this name differs in something that cannot change; it is then left as it was.
    """
    asked = stored_form(spec, problems)

    def open_(connection: Connection) -> tuple[int, StudySpec, bool]:
        query = select(Study.id, Study.spec, Study.manifest).where(Study.name == spec.name).with_for_update()
        row = connection.execute(query).first()
        manifest: Manifest
        if row is None:
            # The key keeps files of this study apart from those of any other, in whatever database it lies.
            manifest = {"key": uuid.uuid4().hex[:12], "version": __version__}
            _describe(manifest, spec, problems)
            created = dt.datetime.now(dt.UTC).replace(tzinfo=None)
            values = {"name": spec.name, "spec": asked, "source": source, "manifest": manifest, "created_at": created}
            return connection.execute(insert(Study).values(**values).returning(Study.id)).scalar_one(), spec, True
        refused, merged = changes(row.spec, asked)
        if refused:
            raise UserError(
                f"study {spec.name!r} is already in this storage and differs ({'; '.join(refused)}): "
                "change `name` in the study file, or use another --storage"
            )
        refuse_changes(row.manifest, spec.name, problems, device)
        if any(merged[key] != row.spec.get(key) for key in merged if key not in FREE):
            refuse_version(row.manifest, spec.name)
        manifest = row.manifest.copy()
        _describe(manifest, spec, problems)
        values = {"spec": merged, "source": source, "manifest": manifest}
        connection.execute(update(Study).where(Study.id == row.id).values(**values))
        grown = parse({**merged, "problems": spec.problems, "methods": spec.methods}, spec.name)
        return row.id, grown, False

    return write(database, open_)


def refuse_changes(manifest: Manifest, name: str, problems: list[Problem], device: str) -> None:
    """Data and the kind of device are those with which the study began.

    Raises:
        UserError: if they are not.
    """
    began = manifest.get("device")
    if began and device != "auto" and torch_device(device).type != began:
        raise UserError(f"study {name!r} began on {began}, not on {device}: use --device {began}, or another --storage")
    for problem in problems:
        known = manifest.get("problems", {}).get(problem.name)
        if known and known["fingerprint"] != problem.fingerprint():
            raise UserError(
                f"the data of problem {problem.name!r} have changed since the study began (fingerprint "
                f"{known['fingerprint']} → {problem.fingerprint()}): use another study name"
            )


def refuse_version(manifest: Manifest, name: str) -> None:
    """Trials of a study are all made by one version, for they are compared with each other.

    Raises:
        UserError: if this is another one.
    """
    version = manifest.get("version", __version__)
    if version != __version__:
        raise UserError(
            f"study {name!r} began with relaxbench {version}, and this is {__version__}: go on with "
            f"relaxbench {version}, or begin a study of another name"
        )


def stored_form(spec: StudySpec, problems: list[Problem]) -> dict[str, Any]:
    """A specification as the database holds it: problems by their own names, not by the paths of their files."""
    return {**spec.model_dump(), "problems": [problem.name for problem in problems]}


def circumstances() -> Circumstances:
    """What is written down once of the machine and the programs on which a study begins."""
    facts = cast(MachineFacts, machine())
    return {**facts, "optuna": _optuna_version(), "git_commit": _git_commit(), "dtype": "float32"}


def _describe(manifest: Manifest, spec: StudySpec, problems: list[Problem]) -> None:
    manifest["problems"] = {**manifest.get("problems", {}), **{p.name: describe_problem(p, spec) for p in problems}}
    # Where a problem comes from, for workers that join: the path of a file, or a name.
    origins = {p.name: _origin(given) for given, p in zip(spec.problems, problems, strict=True)}
    manifest["origins"] = {**manifest.get("origins", {}), **origins}
    methods = dict(manifest.get("methods", {}))
    for label in spec.methods:
        known, new = method_facts(manifest, label), describe_method(label, spec, problems)
        new["spaces"] = {**known["spaces"], **new["spaces"]}
        new["fixes"] = {**known["fixes"], **new["fixes"]}
        new["calibration"] = known["calibration"]
        methods[label] = new
    manifest["methods"] = methods


def _origin(given: str) -> str:
    return str(Path(given).absolute()) if given.endswith(".py") else given


def _optuna_version() -> str:
    import optuna

    return optuna.__version__


def _git_commit() -> str | None:
    """The commit of relaxbench's own checkout, if it runs from one."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
