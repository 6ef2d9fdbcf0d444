"""Who runs what. The trials table is the truth: a claim is a lease with a token, a result needs the latest token."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
from sqlalchemy import Engine, func, insert, or_, select, tuple_, update

from relaxbench.store.schema import Curve, Trial, Weights

LEASE_SECONDS = 120.0
"""A worker that has not renewed its claims for this long is taken for dead."""


def worker_name() -> str:
    """This process, recognizable after its death: host, process number, time of its start."""
    process = psutil.Process()
    return f"{platform.node()}:{process.pid}:{process.create_time():.0f}"


@dataclass(frozen=True)
class Result:
    """What is stored of a finished trial; see `schema.Trial` for the fields."""

    trial: int
    token: int
    value: float
    diverged: bool
    measures: dict[str, Any]
    ledger: dict[str, Any]
    curve: bytes
    correct: bytes | None = None
    weights: bytes | None = None


@dataclass
class Claims:
    """The claims of one worker on one study.

    Attributes:
        engine: the database.
        study: id of the study.
        worker: see `worker_name`.
        tokens: of the trials held, by trial id.
    """

    engine: Engine
    study: int
    worker: str = field(default_factory=worker_name)
    tokens: dict[int, int] = field(default_factory=dict)

    def take(self, problem: str, method: str, phases: Sequence[str], limit: int) -> list[Trial]:
        """Claim at most `limit` waiting (or abandoned) trials, oldest first, in one transaction."""
        if limit <= 0:
            return []
        now = time.time()
        with self.engine.begin() as connection:
            free = or_(Trial.status == "waiting", (Trial.status == "running") & (Trial.lease_until < now))
            here = (Trial.study_id == self.study, Trial.problem == problem, Trial.method == method)
            chosen = select(Trial.id).where(*here, Trial.phase.in_(phases), free).order_by(Trial.id).limit(limit)
            if connection.dialect.name != "sqlite":  # SQLite's BEGIN IMMEDIATE has locked the file already
                chosen = chosen.with_for_update(skip_locked=True)
            ids = list(connection.scalars(chosen))
            connection.execute(
                update(Trial)
                .where(Trial.id.in_(ids))
                .values(status="running", worker=self.worker, token=Trial.token + 1, lease_until=now + LEASE_SECONDS)
            )
            rows = connection.execute(select(Trial.__table__).where(Trial.id.in_(ids)).order_by(Trial.id)).all()
        trials = [Trial(**row._mapping) for row in rows]
        self.tokens.update({trial.id: trial.token for trial in trials})
        return trials

    def renew(self) -> None:
        """Extend the leases of all trials that are held."""
        if self.tokens:
            self._mine(lease_until=time.time() + LEASE_SECONDS)

    def release(self) -> None:
        """Give back what is held, for any worker to continue."""
        if self.tokens:
            self._mine(status="waiting", lease_until=None)
            self.tokens.clear()

    def finish(self, results: Sequence[Result]) -> int:
        """Store results in one transaction. One whose trial was claimed anew meanwhile is dropped; returns the rest."""
        stored = 0
        with self.engine.begin() as connection:
            for result in results:
                values = {
                    "status": "done",
                    "lease_until": None,
                    "value": result.value,
                    "diverged": result.diverged,
                    "measures": result.measures,
                    "ledger": result.ledger,
                    "correct": result.correct,
                    "finished_at": time.time(),
                }
                mine = (Trial.id == result.trial, Trial.token == result.token, Trial.status == "running")
                if not connection.execute(update(Trial).where(*mine).values(**values)).rowcount:
                    continue
                stored += 1
                connection.execute(insert(Curve).values(trial_id=result.trial, data=result.curve))
                if result.weights is not None:
                    connection.execute(insert(Weights).values(trial_id=result.trial, data=result.weights))
        for result in results:
            self.tokens.pop(result.trial, None)
        return stored

    def reap(self) -> int:
        """Free the trials of workers on this machine that are dead; leases of other machines run out by themselves."""
        with self.engine.begin() as connection:
            running = (Trial.study_id == self.study, Trial.status == "running")
            holders = connection.scalars(select(Trial.worker).where(*running).distinct()).all()
            dead = [name for name in holders if name and name != self.worker and not alive(name)]
            freed = update(Trial).where(*running, Trial.worker.in_(dead)).values(status="waiting", lease_until=None)
            return connection.execute(freed).rowcount if dead else 0

    def count(self, *where: Any) -> int:
        """How many trials of the study satisfy some conditions."""
        with self.engine.connect() as connection:
            query = select(func.count()).select_from(Trial).where(Trial.study_id == self.study, *where)
            return connection.scalar(query) or 0

    def _mine(self, **values: Any) -> None:
        """Change the trials that are held, except those that were claimed anew meanwhile."""
        held = tuple_(Trial.id, Trial.token).in_(list(self.tokens.items()))
        with self.engine.begin() as connection:
            connection.execute(update(Trial).where(held, Trial.status == "running").values(**values))


def alive(worker: str) -> bool:
    """False only for a process of this machine that is certainly gone (or a zombie: nobody has collected it yet)."""
    host, pid, started = worker.rsplit(":", 2)
    if host != platform.node():
        return True
    try:
        process = psutil.Process(int(pid))
        same = bool(abs(process.create_time() - float(started)) < 2)  # not another one with its number
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
