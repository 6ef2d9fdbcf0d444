"""The study's own row: what was asked, on which machine, with which engines; and whether it may go on."""

from __future__ import annotations

import datetime as dt
import platform
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import insert, select, update

import relaxbench
from relaxbench.errors import UserError
from relaxbench.problems import Problem
from relaxbench.store.claims import alive
from relaxbench.store.schema import Study
from relaxbench.study.spec import StudySpec, changes, parse
from relaxbench.study.suggest import describe
from relaxbench.training import engine as engines

Manifest = dict[str, Any]
TURN_SECONDS = 600.0
"""After this long a worker of another machine is taken for dead if it has not given its turn back."""


def open_study(
    database: Database, spec: StudySpec, source: str, problems: list[Problem], device: str
) -> tuple[int, StudySpec, bool]:
    """The id of a study, its specification (extended if the stored one can be), and whether it is new.

    Raises:
        UserError: if a study of this name differs in something that cannot change; it is then left as it was.
    """
    asked = stored_form(spec, problems)
    with database.begin() as connection:
        row = connection.execute(select(Study.id, Study.spec, Study.manifest).where(Study.name == spec.name)).first()
        if row is None:
            # The key keeps files of this study apart from those of any other, in whatever database it lies.
            manifest = {"key": uuid.uuid4().hex[:12]}
            values = {
                "name": spec.name,
                "spec": asked,
                "source": source,
                "manifest": manifest,
                "created_at": dt.datetime.now(dt.UTC).replace(tzinfo=None),
            }
            return connection.execute(insert(Study).values(**values).returning(Study.id)).scalar_one(), spec, True
        refused, merged = changes(row.spec, asked)
        if refused:
            raise UserError(
                f"study {spec.name!r} is already in this storage and differs ({'; '.join(refused)}): "
                "change `name` in the study file, or use another --storage"
            )
        _refuse_changes(row.manifest, spec, problems, device)
        connection.execute(update(Study).where(Study.id == row.id).values(spec=merged, source=source))
    grown = parse({**merged, "problems": spec.problems, "methods": spec.methods}, spec.name)
    return row.id, grown, False


def _refuse_changes(manifest: Manifest, spec: StudySpec, problems: list[Problem], device: str) -> None:
    """Data and device are those with which the study began."""
    began = manifest.get("device")
    if began and device != "auto" and str(engines.torch_device(device)) != began:
        raise UserError(
            f"study {spec.name!r} began on {began}, not on {device}: use --device {began}, or another --storage"
        )
    for problem in problems:
        known = manifest.get("problems", {}).get(problem.name)
        if known and known["fingerprint"] != problem.fingerprint():
            raise UserError(
                f"the data of problem {problem.name!r} have changed since the study began (fingerprint "
                f"{known['fingerprint']} → {problem.fingerprint()}): use another study name"
            )


def stored_form(spec: StudySpec, problems: list[Problem]) -> dict[str, Any]:
    """A specification as the database holds it: problems by their own names, not by the paths of their files."""
    return {**spec.model_dump(), "problems": [problem.name for problem in problems]}


def read_manifest(database: Database, study: int) -> Manifest:
    """The manifest of a study."""
    with database.connect() as connection:
        return dict(connection.scalar(select(Study.manifest).where(Study.id == study)) or {})


def edit_manifest(database: Database, study: int, edit: Callable[[Manifest], None]) -> Manifest:
    """Change the manifest in one transaction."""
    with database.begin() as connection:
        # SQLite has locked the file already, and leaves the last words of this out.
        stored = connection.scalar(select(Study.manifest).where(Study.id == study).with_for_update())
        manifest = dict(stored or {})
        edit(manifest)
        connection.execute(update(Study).where(Study.id == study).values(manifest=manifest))
    return manifest


@contextmanager
def turn(database: Database, study: int, task: str, worker: str) -> Iterator[bool]:
    """Do something that one worker alone may do at a time; gives whether it is this worker's turn.

    The turn of a worker that has died is over, on this machine at once, on another one after `TURN_SECONDS`.
    """
    granted = False

    def take(manifest: Manifest) -> None:
        nonlocal granted
        holder = manifest.get("turns", {}).get(task)
        granted = holder is None or not alive(holder["worker"]) or holder["until"] < time.time()
        if granted:
            until = time.time() + TURN_SECONDS
            manifest["turns"] = {**manifest.get("turns", {}), task: {"worker": worker, "until": until}}

    def give(manifest: Manifest) -> None:
        manifest["turns"] = {n: h for n, h in manifest.get("turns", {}).items() if h["worker"] != worker}

    edit_manifest(database, study, take)
    try:
        yield granted
    finally:
        if granted:
            edit_manifest(database, study, give)


def describe_problem(problem: Problem, spec: StudySpec) -> dict[str, Any]:
    """What the report must know of a problem."""
    return {
        "title": problem.title,
        "metric": problem.metric,
        "unit": problem.unit,
        "metric_scale": problem.metric_scale,
        "loss": problem.loss.name,
        "parameters": problem.size,
        "data": problem.data,
        "fingerprint": problem.fingerprint(),
        "budget": spec.budget_of(problem),
        "worst": problem.worst,
        "worst_metric": problem.worst_metric,
        "margin": spec.margin or problem.margin,
        "censored": problem.tolerance is not None,
        "test_examples": problem.test_examples,
        "caution": problem.caution,
    }


def describe_method(label: str, spec: StudySpec, problems: list[Problem]) -> dict[str, Any]:
    """What the report must know of a method; its calibration is added when it has been measured."""
    rule = spec.rule_of(label)
    return {
        "rule": rule.name,
        "title": spec.title_of(label),
        "source": rule.source,
        "role": spec.role_of(label),
        "dimensions": len(spec.space_of(label, problems[0])),
        "space": describe(spec.space_of(label, problems[0])),
        "spaces": {problem.name: describe(spec.space_of(label, problem)) for problem in problems},
        "fixed": spec.fixed_of(label, problems[0]),
        "options": spec.method[label].options if label in spec.method else {},
        "copies": spec.make_rule(label).copies,
        "scope": rule.scope,
        "calibration": {},
    }


def begin_session(
    database: Database, study: int, spec: StudySpec, problems: list[Problem], device: str, population: int | None
) -> Manifest:
    """Write down everything that is decided once, and this session.

    Raises:
        UserError: if the device with which the study began is not there.
    """
    manifest = read_manifest(database, study)
    place = engines.torch_device(manifest.get("device", device))
    chosen = dict(manifest.get("engines", {}))
    for problem in problems:
        if problem.name not in chosen:
            chosen[problem.name] = engines.choose(problem, place, population, spec.precision).as_dict()
        elif population and population != chosen[problem.name]["population"]:
            chosen[problem.name] = {**chosen[problem.name], "population": population}

    def edit(stored: Manifest) -> None:
        stored.setdefault("version", relaxbench.__version__)
        for name, value in engines.machine().items():
            stored.setdefault(name, value)
        stored.setdefault("optuna", _optuna_version())
        stored.setdefault("git_commit", _git_commit())
        stored.setdefault("device", str(place))
        stored.setdefault("dtype", "float32")
        stored["engines"] = chosen
        stored["problems"] = {**stored.get("problems", {}), **{p.name: describe_problem(p, spec) for p in problems}}
        methods = dict(stored.get("methods", {}))
        for label in spec.methods:
            known, new = methods.get(label, {}), describe_method(label, spec, problems)
            spaces = {**known.get("spaces", {}), **new["spaces"]}
            methods[label] = {**new, "spaces": spaces, "calibration": known.get("calibration", {})}
        stored["methods"] = methods
        session = {"started": _now(), "ended": None, "host": platform.node(), "threads": engines.machine()["threads"]}
        stored["sessions"] = [*stored.get("sessions", []), session]

    return edit_manifest(database, study, edit)


def end_session(database: Database, study: int, seconds: float, trials: int) -> None:
    """Close the session's line in the manifest."""

    def edit(stored: Manifest) -> None:
        stored["sessions"][-1].update(ended=_now(), seconds=round(seconds, 1), trials=trials)

    edit_manifest(database, study, edit)


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def _optuna_version() -> str:
    import optuna

    return optuna.__version__


def _git_commit() -> str | None:
    """The commit of relaxbench's own checkout, if it runs from one."""
    root = Path(relaxbench.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
