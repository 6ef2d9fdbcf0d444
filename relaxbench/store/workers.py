"""The workers of a study: one row per session of a process, with its last sign of life."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, insert, select, update
from sqlalchemy.exc import DBAPIError

from relaxbench.errors import UserError
from relaxbench.store.claims import LEASE_SECONDS, alive
from relaxbench.store.facts import MachineFacts
from relaxbench.store.schema import Trial, Worker
from relaxbench.store.transactions import COURTESY_SECONDS, now, read, write

PREPARING = ("compiling", "measuring")
"""So begins what a worker does before it trains."""


@dataclass
class Presence:
    """A worker's row.

    Attributes:
        engine: the database.
        id: of the row.
        doing: the current activity, for people.
        finished: number of trials that it has finished.
        left: whether the session is over.
    """

    engine: Engine
    id: int
    doing: str = ""
    finished: int = 0
    left: bool = False

    def seen(self) -> None:
        """Store a sign of life."""
        self._set()

    def leave(self) -> None:
        """Store that the session is over. Do not wait long for a database: other workers detect the process's end."""
        if not self.left:
            self.left, self.doing = True, ""
            with contextlib.suppress(UserError, DBAPIError):
                self._set(COURTESY_SECONDS)

    def _set(self, patience: float | None = None) -> None:
        def change(connection: Connection) -> None:
            values: dict[str, Any] = {"doing": self.doing, "finished": self.finished, "seen_at": now(connection)}
            if self.left:
                values["ended_at"] = values["seen_at"]
            connection.execute(update(Worker).where(Worker.id == self.id).values(**values))

        write(self.engine, change, patience)


def arrive(engine: Engine, study: int, name: str, device: str, about: MachineFacts) -> Presence:
    """Add a row for a session that begins.

    Args:
        engine: the database.
        study: its id.
        name: see `claims.worker_name`.
        device: the device on which it computes.
        about: its machine and programs.
    """

    def add(connection: Connection) -> int:
        time = now(connection)
        values = {"study_id": study, "name": name, "device": device, "about": about, "doing": "", "finished": 0}
        query = insert(Worker).values(**values, started_at=time, seen_at=time).returning(Worker.id)
        return connection.execute(query).scalar_one()

    return Presence(engine, write(engine, add))


def workers(engine: Engine, study: int) -> list[Row[Any]]:
    """All sessions of a study, oldest first: the columns of `Worker`, ``running`` (trials) and ``silent`` (seconds)."""

    def rows(connection: Connection) -> list[Row[Any]]:
        held = (Trial.study_id == study, Trial.status == "running", Trial.worker == Worker.name)
        running = select(func.count()).select_from(Trial).where(*held).scalar_subquery()
        silent = (now(connection) - Worker.seen_at).label("silent")
        query = select(Worker.__table__, running.label("running"), silent).where(Worker.study_id == study)
        return list(connection.execute(query.order_by(Worker.id)))

    return read(engine, rows)


def at_work(row: Row[Any]) -> bool:
    """Whether a session goes on, as far as one can see from here.

    Args:
        row: from `workers`.
    """
    return row.ended_at is None and row.silent < LEASE_SECONDS and alive(row.name)
