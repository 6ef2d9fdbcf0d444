"""Copy studies from one database to another."""

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
from relaxbench.store.schema import FINISHED, Base, Curve, Study, Trial, Weights, Worker
from relaxbench.store.soundness import DAMAGED, REPAIR, check_answers, check_curve, check_facts, check_trials, damage
from relaxbench.store.studies import choose_study
from relaxbench.store.urls import advice, reason, show_url

AT_ONCE = {Trial: 500, Curve: 200, Weights: 1, Worker: 1000}
"""Rows held in memory at once; the weights of a large network take 100 MB."""
LONGEST_NAME = 200

Values = dict[str, Any]


@dataclass(frozen=True)
class Copied:
    """The size of a study's copy.

    Attributes:
        name: of the copy.
        trials: number of trials.
        done: number of finished trials.
        curves: number of learning curves.
        weights: number of recommended runs with weights.
        workers: number of workers' sessions.
    """

    name: str
    trials: int
    done: int
    curves: int
    weights: int
    workers: int


def study_to_copy(source: Engine, name: str | None = None) -> str:
    """Choose a study of a database; None means the only one.

    Raises:
        UserError: if it does not exist, or no name is given and there is not exactly one study.
    """
    with one_line(f"storage {show_url(source.url)!r} cannot be read", source), source.connect() as connection:
        return _choose(connection, name)


def check_name(new_name: str | None) -> None:
    """Check the name that a copy gets; None is the study's own.

    Raises:
        UserError: if it is empty or blank, too long, or cannot be printed.
    """
    if new_name is not None and not 0 < len(new_name) <= LONGEST_NAME:
        raise UserError(f"name {new_name!r}: expected 1 to {LONGEST_NAME} letters, not {len(new_name)}", "name")
    if new_name is not None and new_name != new_name.strip():
        raise UserError(f"name {new_name!r}: expected a name without blanks at its ends", "name")
    if new_name is not None and not new_name.isprintable():
        raise UserError(f"name {new_name!r}: expected printable characters, without line breaks", "name")


def copy_study(source: Engine, target: Engine, name: str, new_name: str | None = None) -> Copied:
    """Copy a study as it is at one moment, whole or not at all; workers may go on with it meanwhile.

    The copy is an independent study: running trials wait in it, no worker works on it, and its key is new, so that it
    shares no checkpoint. Ids change.

    Args:
        source: where the study is.
        target: where it goes, with this version's tables; may be the source.
        name: the study.
        new_name: the copy's name; None for the same.

    Raises:
        UserError: if there is no such study, the name is taken, or a database fails; then nothing was written.
    """
    copy_name = name if new_name is None else new_name
    check_name(new_name)
    failed = f"study {name!r} could not be copied, and nothing was written"
    with one_line(failed, source, target), snapshot(source) as reading:
        _choose(reading, name)
        with target.begin() as writing:
            if writing.scalar(select(Study.id).where(Study.name == copy_name)) is not None:
                raise UserError(
                    f"study {copy_name!r} is already in storage {show_url(target.url)!r}: give the copy another name",
                    "name",
                )
            return _copy(reading, writing, name, copy_name)


def _choose(connection: Connection, name: str | None) -> str:
    return choose_study(connection.scalars(select(Study.name).order_by(Study.id)).all(), name)


def _copy(reading: Connection, writing: Connection, name: str, copy_name: str) -> Copied:
    """Copy all rows of a study."""
    old = reading.execute(select(Study.__table__).where(Study.name == name)).one()
    check_facts(old.spec, old.manifest)
    new = writing.execute(insert(Study).values(_as_new(old._asdict(), copy_name)).returning(Study.id)).scalar_one()
    numbers = list(reading.scalars(select(Trial.id).where(Trial.study_id == old.id).order_by(Trial.id)))
    ids = dict(zip(numbers, _reserve(writing, len(numbers)), strict=True))

    def stream(model: type[Base], rows: Select[Any], change: Callable[[Values], Values]) -> int:
        count = 0
        with reading.execute(rows, execution_options={"yield_per": AT_ONCE[model]}) as result:
            for some in result.partitions():
                if model is Trial:
                    check_trials(some)
                    for row in some:
                        if row.correct is not None:
                            examples = old.manifest.get("problems", {}).get(row.problem, {}).get("test_examples")
                            check_answers(row.id, row.correct, examples)
                writing.execute(insert(model), [change(row._asdict()) for row in some])
                count += len(some)
        return count

    def curve(row: Values) -> Values:
        check_curve(row["trial_id"], row["data"])
        return array(row)

    def array(row: Values) -> Values:
        return {**row, "trial_id": ids[row["trial_id"]]}

    trials = select(Trial.__table__).where(Trial.study_id == old.id).order_by(Trial.id)
    curves = select(Curve.__table__).join(Trial).where(Trial.study_id == old.id).order_by(Trial.id)
    weights = select(Weights.__table__).join(Trial).where(Trial.study_id == old.id).order_by(Trial.id)
    workers = select(Worker.__table__).where(Worker.study_id == old.id).order_by(Worker.id)
    done = select(func.count()).select_from(Trial).where(Trial.study_id == old.id, Trial.status.in_(FINISHED))
    return Copied(
        name=copy_name,
        trials=stream(Trial, trials, lambda row: _waiting(row, new, ids)),
        done=reading.scalar(done) or 0,
        curves=stream(Curve, curves, curve),
        weights=stream(Weights, weights, array),
        workers=stream(Worker, workers, lambda row: _gone(row, new)),
    )


def _as_new(study: Values, name: str) -> Values:
    """A study's row as that of its copy, which names its origin."""
    old = study["manifest"]
    origin = {"name": study["name"], "key": old.get("key"), "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds")}
    manifest = {**_without(old, "turns"), "key": uuid.uuid4().hex[:12], "copied_from": origin}
    spec = {**study["spec"], "name": name} if "name" in study["spec"] else study["spec"]
    return {**_without(study, "id"), "name": name, "spec": spec, "manifest": manifest}


def _waiting(trial: Values, study: int, ids: dict[int, int]) -> Values:
    """A trial's row as that of its copy: no worker runs it, and Optuna does not have it."""
    parent = trial["parent"]
    if parent and parent not in ids:
        raise ValueError(f"trial {trial['id']} names a parent {parent} that does not exist")
    new = {"id": ids[trial["id"]], "study_id": study, "parent": ids.get(parent, 0), "mirrored": False}
    free = {"status": "waiting", "worker": None, "lease_until": None} if trial["status"] == "running" else {}
    return {**trial, **new, **free}


def _gone(worker: Values, study: int) -> Values:
    """A worker's row as that of a copy: its session has ended."""
    ended = worker["seen_at"] if worker["ended_at"] is None else worker["ended_at"]
    return {**_without(worker, "id"), "study_id": study, "ended_at": ended}


def _without(values: Values, key: str) -> Values:
    return {name: value for name, value in values.items() if name != key}


def _reserve(connection: Connection, count: int) -> Sequence[int]:
    """Reserve ascending ids for new trials, so that children can name their parents."""
    if connection.dialect.name == "postgresql":
        sequence = func.pg_get_serial_sequence(Trial.__tablename__, "id")
        return connection.scalars(select(func.nextval(sequence)).select_from(func.generate_series(1, count))).all()
    last = connection.scalar(select(func.max(Trial.id))) or 0  # SQLite's transaction has locked the file
    return range(last + 1, last + 1 + count)


@contextmanager
def one_line(what: str, *engines: Engine, todo: str | None = None) -> Iterator[None]:
    """Turn a database's error into one line.

    Args:
        what: the operation that failed.
        engines: databases whose passwords are hidden.
        todo: what the user can do; None to derive it from the error.

    Raises:
        UserError: instead of the database's errors.
    """
    try:
        yield
    except SQLAlchemyError as error:
        message = reason(error, *(engine.url for engine in engines))
        raise UserError(f"{what} ({message}): {todo or advice(error)}") from None
    except DAMAGED as error:
        raise UserError(f"{what} ({damage(error)}): {todo or REPAIR}") from None
