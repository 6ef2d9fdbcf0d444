"""Open a study: create its row in the database, or check that a stored study may continue or grow."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy import Engine as Database

from relaxbench.errors import UserError
from relaxbench.problems import Problem
from relaxbench.store.facts import LenderFacts, Manifest, SpecFacts, method_facts, protocol
from relaxbench.store.identity_facts import IdentityFacts
from relaxbench.store.schema import Study
from relaxbench.store.transactions import read, write
from relaxbench.study.coordination.plan import Plan, plans
from relaxbench.study.coordination.progress import tally
from relaxbench.study.definition.changes import FREE, STATED, merge, variant_advice
from relaxbench.study.definition.facts import describe_method, describe_problem
from relaxbench.study.definition.flatness_share import keep_flatness, measure_fully
from relaxbench.study.definition.identity import (
    changed_splits,
    edited_notes,
    identify,
    keep_identity,
    keep_measurements,
    refuse_edits,
)
from relaxbench.study.definition.known import keep_origins
from relaxbench.study.definition.ladder import rung_sources
from relaxbench.study.definition.paths import keep_path, refuse_path
from relaxbench.study.definition.renamed import origin, refuse_renamed
from relaxbench.study.definition.restated import assign_roles, is_read, refuse_restatements, restatements
from relaxbench.study.definition.spec import StudySpec
from relaxbench.study.definition.validation import restore
from relaxbench.training.engine import Wish
from relaxbench.util.text import listed
from relaxbench.version import __version__

NO_IDENTITY = (
    "This study began before problems and methods were identified: from now on they are compared with those of today."
)
"""What is said of a study that an earlier relaxbench began."""


@dataclass(frozen=True)
class OpenStudy:
    """A study in the database, its trials planned.

    Attributes:
        id: of its row.
        new: whether it was created just now.
        spec: the part of it that is worked on.
        problems: of that part.
        plans: the trials of each method on each problem.
        notes: what a person has to know of the study, one line each.
    """

    id: int
    new: bool
    spec: StudySpec
    problems: list[Problem]
    plans: list[Plan]
    notes: tuple[str, ...] = ()

    @classmethod
    def begin(
        cls, database: Database, id_: int, new: bool, spec: StudySpec, problems: list[Problem], notes: Sequence[str]
    ) -> OpenStudy:
        """Plan the trials of a stored study, and write the rows of those that can run now."""
        planned = plans(database, id_, [problem.name for problem in problems], spec.methods)
        for plan in planned:
            plan.begin()  # the process that created the study may have been stopped before this
        return cls(id_, new, spec, problems, planned, tuple(notes))


def open_study(
    database: Database,
    spec: StudySpec,
    source: str,
    problems: list[Problem],
    device: torch.device | None = None,
    restate: bool = False,
    path: Wish = "auto",
    lenders: Mapping[str, LenderFacts] | None = None,
) -> OpenStudy:
    """Create a study, or continue or extend the stored one of that name.

    Its manifest then describes the problems and methods, so that its trials can be planned from the row alone.

    Args:
        database: from `store.database.open_database`.
        spec: the study.
        source: the text of the study file.
        problems: from `prepare`.
        device: where this session will run; None for the kind of device on which the study began.
        restate: whether margin, baseline and controls may change although test data have been read; see `restated`.
        path: on which problems are trained that have no engine yet; ``"auto"``: as asked for before, or the fastest.
        lenders: what is known of studies that known settings come from, see `borrowed.Borrowed`.

    Raises:
        UserError: if the stored study, or one of its problems or methods, differs in something that cannot change; it
            is then left as it was.
    """
    sources = dict(zip((problem.name for problem in problems), rung_sources(spec), strict=True))
    stored = stored_manifest(database, spec.name)
    keep_measurements(stored or Manifest(), problems)
    identity = identify(spec, problems, sources, stored)
    asked = _Request(spec, source, problems, identity, device, restate, path, lenders)

    def open_(connection: Connection) -> tuple[int, StudySpec, bool, list[str]]:
        query = select(Study.id, Study.spec, Study.manifest).where(Study.name == spec.name).with_for_update()
        row = connection.execute(query).first()
        return asked.create(connection) if row is None else asked.continue_(connection, row)

    id_, merged, new, notes = write(database, open_)
    opened = OpenStudy.begin(database, id_, new, merged, problems, notes)
    left = [] if new else _left_out(database, opened)
    return replace(opened, notes=(*opened.notes, *left))


@dataclass(frozen=True)
class _Request:
    """What is asked of the database, in one transaction."""

    spec: StudySpec
    source: str
    problems: list[Problem]
    identity: IdentityFacts
    device: torch.device | None
    restate: bool
    path: Wish
    lenders: Mapping[str, LenderFacts] | None

    def create(self, connection: Connection) -> tuple[int, StudySpec, bool, list[str]]:
        """Add the row of a new study."""
        # The key keeps files of this study apart from those of any other, in whatever database it lies.
        manifest: Manifest = {"key": uuid.uuid4().hex[:12], "version": __version__}
        _describe(manifest, self.spec, self.problems)
        keep_origins(connection, manifest, self.spec, self.lenders)
        keep_path(manifest, self.path)
        keep_identity(manifest, self.identity)
        values = {
            "name": self.spec.name,
            "spec": stored_form(self.spec, self.problems),
            "source": self.source,
            "manifest": manifest,
            "created_at": dt.datetime.now(dt.UTC).replace(tzinfo=None),
        }
        row_id = insert(Study).values(**values).returning(Study.id)
        return connection.execute(row_id).scalar_one(), self.spec, True, []

    def continue_(self, connection: Connection, row: Row[Any]) -> tuple[int, StudySpec, bool, list[str]]:
        """Check that the stored study may go on, and change its row."""
        spec, problems = self.spec, self.problems
        refuse_protocol(row.spec, spec.name)
        refuse_renamed(row.manifest.get("origins", {}), _origins(spec, problems), spec.name)
        refused, merged = merge(row.spec, stored_form(spec, problems))
        if refused:
            raise UserError(
                f"study {spec.name!r} is already in this storage and differs ({'; '.join(refused)}): "
                f"{variant_advice(refused, spec)}change `name` in the study file, or use another storage",
                "storage",
            )
        refuse_changes(row.manifest, spec.name, problems, self.device)
        refuse_edits(row.manifest, spec.name, self.identity, spec, problems)
        refuse_path(row.manifest, spec.name, problems, self.path)
        restated = restatements(row.manifest, row.spec, merged, problems) if is_read(connection, row.id) else []
        if not self.restate:
            refuse_restatements(restated, spec.name)
        if any(merged[key] != row.spec.get(key) for key in merged if key not in (*FREE, *STATED)):
            refuse_version(row.manifest, spec.name)
        manifest = row.manifest.copy()
        notes = edited_notes(manifest, self.identity)
        notes += [NO_IDENTITY] if keep_identity(manifest, self.identity) else []
        if spec.flatness == "full":
            measure_fully(connection, row.id, manifest, spec.name)
        _describe(manifest, spec, problems)
        keep_origins(connection, manifest, spec, self.lenders)
        keep_path(manifest, self.path)
        _keep_extra_look(manifest, row.spec, merged)
        assign_roles(manifest, merged)
        if restated:
            manifest["restated"] = [*manifest.get("restated", []), *restated]
        values = {"spec": merged, "source": self.source, "manifest": manifest}
        connection.execute(update(Study).where(Study.id == row.id).values(**values))
        extended = restore({**merged, "problems": spec.problems, "methods": spec.methods}, spec.name)
        return row.id, extended, False, notes


def _left_out(database: Database, opened: OpenStudy) -> list[str]:
    """Say which comparisons of a stored study are neither finished nor requested now: they are not dropped."""
    here = {(plan.problem, plan.method) for plan in opened.plans}
    left = [plan for plan in plans(database, opened.id) if (plan.problem, plan.method) not in here]
    states = tally(left) if left else []
    unfinished = [
        f"{p.method} on {p.problem}" for p, s in zip(left, states, strict=True) if s.done < s.total or p.goes_on(s.look)
    ]
    if not unfinished:
        return []
    return [
        f"Not finished and not requested now: {listed(unfinished)}. The page keeps them, and their comparisons still "
        "share the level with the others; name them again to finish them."
    ]


def stored_manifest(database: Database, name: str) -> Manifest | None:
    """Read the manifest of the study of a name; None if there is none yet."""
    query = select(Study.manifest).where(Study.name == name)
    return read(database, lambda connection: connection.scalar(query))


def refuse_changes(manifest: Manifest, name: str, problems: list[Problem], device: torch.device | None) -> None:
    """Check that the data, and the kind of device, are those with which the study began.

    Raises:
        UserError: if they are not.
    """
    began = manifest.get("device")
    if began and device is not None and device.type != began:
        raise UserError(
            f"study {name!r} began on {began}, not on {device}: use device {began}, or another storage",
            "device",
            "storage",
        )
    for problem in problems:
        known = manifest.get("problems", {}).get(problem.name)
        if known and known["fingerprint"] != problem.fingerprint():
            told = changed_splits(manifest, problem) or ["other values, or another order"]
            raise UserError(
                f"the data of problem {problem.name!r} have changed since the study began ({'; '.join(told)}; "
                f"fingerprint {known['fingerprint']} → {problem.fingerprint()}): use another study name"
            )


def refuse_protocol(spec: SpecFacts, name: str) -> None:
    """Check that a stored study was planned by the protocol of this version.

    Raises:
        UserError: if it was planned for a fixed number of blocks, without looks.
    """
    if protocol(spec) != 2:
        raise UserError(
            f"study {name!r} was planned by an earlier protocol, without looks: it can be shown, reported and "
            "exported, but does not go on; begin a study of another name"
        )


def refuse_version(manifest: Manifest, name: str) -> None:
    """Check that the study began with this version: trials that are compared must come from one version.

    Raises:
        UserError: if it began with another one.
    """
    version = manifest.get("version", __version__)
    if version != __version__:
        raise UserError(
            f"study {name!r} began with relaxbench {version}, and this is {__version__}: go on with "
            f"relaxbench {version}, or begin a study of another name"
        )


def stored_form(spec: StudySpec, problems: list[Problem]) -> dict[str, Any]:
    """Return a specification as the database holds it: problems by their names, not by the paths of their files."""
    return {**spec.model_dump(), "problems": [problem.name for problem in problems]}


def _describe(manifest: Manifest, spec: StudySpec, problems: list[Problem]) -> None:
    """Add the facts about problems and methods to a manifest; calibrations stay."""
    described = manifest.get("problems", {})
    added = [problem for problem in problems if problem.name not in described]
    manifest["problems"] = {**described, **{p.name: describe_problem(p, spec) for p in problems}}
    manifest["origins"] = {**manifest.get("origins", {}), **_origins(spec, problems)}
    methods = dict(manifest.get("methods", {}))
    for label in spec.methods:
        known, new = method_facts(manifest, label), describe_method(label, spec, problems)
        new["spaces"] = {**known["spaces"], **new["spaces"]}
        new["fixes"] = {**known["fixes"], **new["fixes"]}
        new["publications"] = {**known["publications"], **new["publications"]}
        new["calibration"] = known["calibration"]
        methods[label] = new
    manifest["methods"] = methods
    keep_flatness(manifest, spec, added)


def _origins(spec: StudySpec, problems: list[Problem]) -> dict[str, str]:
    """Return where every problem comes from, for workers that join: the path of a file, or a name."""
    return {problem.name: origin(source) for source, problem in zip(rung_sources(spec), problems, strict=True)}


def _keep_extra_look(manifest: Manifest, before: SpecFacts, after: Mapping[str, Any]) -> None:
    """Keep the look of an earlier extension beyond the declared looks: every look taken counts for the guarantee."""
    more = before.get("more_blocks", 0)
    if more and after["more_blocks"] != more:
        manifest["extra_looks"] = [*manifest.get("extra_looks", []), before["looks"][-1] + more]
