"""Studies that move from one database to another."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Select, func, insert, select
from sqlalchemy.exc import SQLAlchemyError

from relaxbench.errors import UserError
from relaxbench.store.database import snapshot
from relaxbench.store.schema import Base, Curve, Study, Trial, Weights, Worker
from relaxbench.store.studies import choose_study
from relaxbench.store.urls import advice, reason, show_url

AT_ONCE = {Trial: 500, Curve: 200, Weights: 1, Worker: 1000}
"""Rows that are held in memory; the weights of a large network take 100 MB."""
LONGEST_NAME = 200

Values = dict[str, Any]


@dataclass(frozen=True)
class Copied:
    """What a copy of a study holds.

    Attributes:
        name: the copy's name.
        trials: rows of it; likewise the others.
        done: trials that are finished.
        curves: of finished trials.
        weights: of recommended runs.
        workers: that have worked on it.
    """

    name: str
    trials: int
    done: int
    curves: int
    weights: int
    workers: int


def choose(source: Engine, name: str | None = None) -> str:
    """The study that is meant in a database: None means the only one.

    Raises:
        UserError: if it is not there, or none was named and there is not exactly one.
    """
    with one_line(f"storage {show_url(source.url)!r} cannot be read", source), source.connect() as connection:
        return _choose(connection, name)


def copy_study(source: Engine, target: Engine, name: str, new_name: str | None = None) -> Copied:
    """Copy a study as it is at one moment, whole or not at all, while others may go on working on it.

    The copy is a study of its own: trials that run wait again there, nobody works on it, and its key is new, so that
    it shares no checkpoint. Ids change.

    Args:
        source: where the study is.
        target: where it goes, at this version's tables; may be the source.
        name: the study.
        new_name: the copy's name, if not the same.

    Raises:
        UserError: if there is no such study, the name is taken, or a database fails; then nothing was written.
    """
    wanted = name if new_name is None else new_name
    if new_name is not None and not 0 < len(new_name) <= LONGEST_NAME:
        raise UserError(f"name {new_name!r}: expected 1 to {LONGEST_NAME} letters, not {len(new_name)}", "name")
    failed = f"study {name!r} could not be copied, and nothing was written"
    with one_line(failed, source, target), snapshot(source) as reading:
        _choose(reading, name)
        with target.begin() as writing:
            if writing.scalar(select(Study.id).where(Study.name == wanted)) is not None:
                raise UserError(
                    f"study {wanted!r} is already in storage {show_url(target.url)!r}: give the copy another name",
                    "name",
                )
            return _copy(reading, writing, name, wanted)


def _choose(connection: Connection, name: str | None) -> str:
    return choose_study(connection.scalars(select(Study.name).order_by(Study.id)).all(), name)


def _copy(reading: Connection, writing: Connection, name: str, wanted: str) -> Copied:
    """Copy all rows of a study."""
    old = reading.execute(select(Study.__table__).where(Study.name == name)).one()
    new = writing.execute(insert(Study).values(_as_new(old._asdict(), wanted)).returning(Study.id)).scalar_one()
    numbers = list(reading.scalars(select(Trial.id).where(Trial.study_id == old.id).order_by(Trial.id)))
    ids = dict(zip(numbers, _reserve(writing, len(numbers)), strict=True))

    def stream(model: type[Base], rows: Select[Any], change: Callable[[Values], Values]) -> int:
        count = 0
        for some in reading.execute(rows, execution_options={"yield_per": AT_ONCE[model]}).partitions():
            writing.execute(insert(model), [change(row._asdict()) for row in some])
            count += len(some)
        return count

    def array(row: Values) -> Values:
        return {**row, "trial_id": ids[row["trial_id"]]}

    trials = select(Trial.__table__).where(Trial.study_id == old.id).order_by(Trial.id)
    curves = select(Curve.__table__).join(Trial).where(Trial.study_id == old.id).order_by(Trial.id)
    weights = select(Weights.__table__).join(Trial).where(Trial.study_id == old.id).order_by(Trial.id)
    workers = select(Worker.__table__).where(Worker.study_id == old.id).order_by(Worker.id)
    done = select(func.count()).select_from(Trial).where(Trial.study_id == old.id, Trial.status == "done")
    return Copied(
        name=wanted,
        trials=stream(Trial, trials, lambda row: _waiting(row, new, ids)),
        done=reading.scalar(done) or 0,
        curves=stream(Curve, curves, array),
        weights=stream(Weights, weights, array),
        workers=stream(Worker, workers, lambda row: _gone(row, new)),
    )


def _as_new(study: Values, name: str) -> Values:
    """The row of a study as that of a copy, which knows where it came from."""
    old = study["manifest"]
    origin = {"name": study["name"], "key": old.get("key"), "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds")}
    manifest = {**_without(old, "turns"), "key": uuid.uuid4().hex[:12], "copied_from": origin}
    spec = {**study["spec"], "name": name} if "name" in study["spec"] else study["spec"]
    return {**_without(study, "id"), "name": name, "spec": spec, "manifest": manifest}


def _waiting(trial: Values, study: int, ids: dict[int, int]) -> Values:
    """The row of a trial as that of a copy: nobody runs it, and Optuna does not have it."""
    parent = trial["parent"]
    if parent and parent not in ids:
        raise ValueError(f"trial {trial['id']} names a parent {parent} that is not there")
    new = {"id": ids[trial["id"]], "study_id": study, "parent": ids.get(parent, 0), "mirrored": False}
    free = {"status": "waiting", "worker": None, "lease_until": None} if trial["status"] == "running" else {}
    return {**trial, **new, **free}


def _gone(worker: Values, study: int) -> Values:
    """The row of a worker as that of a copy, on which it has never worked."""
    ended = worker["seen_at"] if worker["ended_at"] is None else worker["ended_at"]
    return {**_without(worker, "id"), "study_id": study, "ended_at": ended}


def _without(values: Values, key: str) -> Values:
    return {name: value for name, value in values.items() if name != key}


def _reserve(connection: Connection, count: int) -> Sequence[int]:
    """New ids of trials, ascending: known at once, so that children can name their parents."""
    if connection.dialect.name == "postgresql":
        sequence = func.pg_get_serial_sequence(Trial.__tablename__, "id")
        return connection.scalars(select(func.nextval(sequence)).select_from(func.generate_series(1, count))).all()
    last = connection.scalar(select(func.max(Trial.id))) or 0  # SQLite's transaction has locked the file
    return range(last + 1, last + 1 + count)


@contextmanager
def one_line(what: str, *engines: Engine, todo: str | None = None) -> Iterator[None]:
    """Say in one line that a database failed, or holds what cannot be read.

    Args:
        what: what went wrong by that.
        engines: databases whose passwords are not shown.
        todo: what to do about it, if it is known.

    Raises:
        UserError: instead of the database's errors.
    """
    try:
        yield
    except (SQLAlchemyError, ValueError) as error:
        said = reason(error, *(engine.url for engine in engines))
        raise UserError(f"{what} ({said}): {todo or advice(error)}") from None
