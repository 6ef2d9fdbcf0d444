"""Who runs what. The trials table is the truth: a claim is a lease with a token, a result needs the latest token."""

from __future__ import annotations

import platform
import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
from sqlalchemy import ColumnElement, Connection, Engine, case, func, insert, or_, select, tuple_, update
from sqlalchemy import Engine as Database

from relaxbench.errors import UserError, unknown
from relaxbench.store.schema import Curve, Trial, Weights
from relaxbench.store.studies import find_study
from relaxbench.store.transactions import COURTESY_SECONDS, now, read, write

LEASE_SECONDS = 120.0
"""A worker that has not renewed its claims for this long is taken for dead."""
RETRIES = 3
"""How often a trial is tried again after a failure, unless told otherwise."""
DIED = "its worker died"
"""The error of a trial whose worker can no longer say what happened."""


def worker_name(process: psutil.Process | None = None) -> str:
    """This process (or another one), recognizable after its death: host, process number, time of its start."""
    process = process or psutil.Process()
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
    """The claims of one worker on one study. A second thread may call `renew`.

    Attributes:
        engine: the database.
        study: id of the study.
        worker: see `worker_name`.
        retries: a trial that has failed more often than this is given up.
        tokens: of the trials held, by trial id.
        lost: trials that were held and have been claimed anew since: not to be worked on any longer.
    """

    engine: Engine
    study: int
    worker: str = field(default_factory=worker_name)
    retries: int = RETRIES
    tokens: dict[int, int] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    guard: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def take(self, problem: str, method: str, limit: int, alone: bool = False) -> list[Trial]:
        """Claim at most `limit` waiting trials in one transaction; none of those that are still being worked on here.

        Confirmations come first, then TPE's generations, then random trials, each in their order: the longest chain of
        trials that wait for each other begins earliest. The phases' names happen to sort so.

        Args:
            problem: of the trials.
            method: of the trials.
            limit: how many.
            alone: take one whose next failure would be its last. It gets no company, so that the failure is its own.
        """
        if limit <= 0:
            return []
        with self.guard:
            here = [*self.tokens, *self.lost]
        place = (Trial.study_id == self.study, Trial.problem == problem, Trial.method == method)
        free = (*place, Trial.status == "waiting", Trial.id.not_in(here))
        chosen = select(Trial.id).where(*free, self._last_attempt() if alone else ~self._last_attempt())
        chosen = chosen.order_by(Trial.phase, Trial.id).limit(1 if alone else limit)

        claimed: dict[int, int] = {}

        def claim(connection: Connection) -> list[Trial]:
            if claimed:  # before, and only the answer was lost
                mine = select(Trial.__table__).where(self._mine(claimed), Trial.worker == self.worker)
                if rows := connection.execute(mine).all():
                    return [Trial(**row._mapping) for row in rows]
            locked = chosen.with_for_update(skip_locked=True)  # SQLite has locked the file, and leaves this out
            ids = list(connection.scalars(locked))
            if not ids:
                return []
            connection.execute(
                update(Trial)
                .where(Trial.id.in_(ids))
                .values(
                    status="running",
                    worker=self.worker,
                    token=Trial.token + 1,
                    lease_until=now(connection) + LEASE_SECONDS,
                )
            )
            rows = connection.execute(select(Trial.__table__).where(Trial.id.in_(ids))).all()
            claimed.clear()
            claimed.update({row.id: row.token for row in rows})
            return [Trial(**row._mapping) for row in rows]

        trials = sorted(write(self.engine, claim), key=lambda trial: (trial.phase, trial.id))
        with self.guard:
            self.tokens.update({trial.id: trial.token for trial in trials})
        return trials

    def open(self) -> defaultdict[tuple[str, str], Counter[str]]:
        """By problem and method, how many trials there are of each status; of those that wait, some are ``alone``."""
        waits = Trial.status == "waiting"
        kind = case((waits & self._last_attempt(), "alone"), else_=Trial.status).label("kind")
        place = (Trial.problem, Trial.method, kind)
        query = select(*place, func.count()).where(Trial.study_id == self.study).group_by(*place)
        counts: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for problem, method, what, count in read(self.engine, lambda connection: connection.execute(query).all()):
            counts[problem, method][what] = count
        return counts

    def renew(self) -> None:
        """Extend the leases of all trials that are held; those that were claimed anew go to `lost`.

        One that was freed meanwhile, because this worker was taken for dead, is taken back if nobody else has it.
        """
        with self.guard:
            held = dict(self.tokens)
        if not held:
            return

        def extend(connection: Connection) -> set[tuple[int, int]]:
            until = now(connection) + LEASE_SECONDS
            back = self._held(held) & Trial.status.in_(("running", "waiting"))
            connection.execute(update(Trial).where(back).values(status="running", lease_until=until))
            rows = connection.execute(select(Trial.id, Trial.token).where(self._mine(held))).all()
            return {(row.id, row.token) for row in rows}

        still = write(self.engine, extend)
        with self.guard:
            gone = {t for t, token in held.items() if (t, token) not in still and self.tokens.get(t) == token}
            self.lost |= gone
            for trial in gone:
                del self.tokens[trial]

    def release(self) -> None:
        """Give back what is held, for any worker to continue.

        Raises:
            UserError: if the database does not answer; the leases will run out.
        """
        held = self._let_go()
        if held:
            back = update(Trial).where(self._mine(held)).values(status="waiting", lease_until=None)
            write(self.engine, lambda connection: connection.execute(back), COURTESY_SECONDS)

    def fail(self, error: str) -> None:
        """Give back what is held because of an error: to be tried again, or given up if that happened too often."""
        held = self._let_go()
        if held:
            back = update(Trial).where(self._mine(held)).values(**self._failed(error))
            write(self.engine, lambda connection: connection.execute(back))

    def finish(self, results: Sequence[Result]) -> int:
        """Store results in one transaction. One whose trial was claimed anew meanwhile is dropped; returns the rest.

        A lease that ran out does no harm while nobody else has the trial.
        """

        def store(connection: Connection) -> int:
            stored = 0
            for result in results:
                values = {
                    "status": "done",
                    "lease_until": None,
                    "worker": self.worker,
                    "value": result.value,
                    "diverged": result.diverged,
                    "measures": result.measures,
                    "ledger": result.ledger,
                    "correct": result.correct,
                    "finished_at": now(connection),
                }
                mine = (Trial.id == result.trial, Trial.token == result.token, Trial.status != "done")
                if not connection.execute(update(Trial).where(*mine).values(**values)).rowcount:
                    continue
                stored += 1
                connection.execute(insert(Curve).values(trial_id=result.trial, data=result.curve))
                if result.weights is not None:
                    connection.execute(insert(Weights).values(trial_id=result.trial, data=result.weights))
            return stored

        stored = write(self.engine, store) if results else 0
        with self.guard:
            for result in results:
                self.tokens.pop(result.trial, None)
        return stored

    def reap(self) -> int:
        """Free the trials of the dead: at once if they died on this machine, else when their leases have run out."""

        def free(connection: Connection) -> int:
            running = (Trial.study_id == self.study, Trial.status == "running")
            holders = connection.scalars(select(Trial.worker).where(*running).distinct()).all()
            dead = [name for name in holders if name and name != self.worker and not alive(name)]
            over = or_(Trial.worker.in_(dead), Trial.lease_until < now(connection))
            return connection.execute(update(Trial).where(*running, over).values(**self._failed(DIED))).rowcount

        waiting = (Trial.study_id == self.study, Trial.status == "running")
        return write(self.engine, free) if self.count(*waiting) else 0

    def free(self, workers: Sequence[str]) -> None:
        """Give back what workers held that were ended on purpose: no failure of their trials.

        Raises:
            UserError: if the database does not answer; the leases will run out.
        """
        held = (Trial.study_id == self.study, Trial.status == "running", Trial.worker.in_(workers))
        back = update(Trial).where(*held).values(status="waiting", lease_until=None)
        write(self.engine, lambda connection: connection.execute(back), COURTESY_SECONDS)

    def count(self, *where: ColumnElement[bool]) -> int:
        """How many trials of the study satisfy some conditions."""
        query = select(func.count()).select_from(Trial).where(Trial.study_id == self.study, *where)
        return read(self.engine, lambda connection: connection.scalar(query)) or 0

    def _last_attempt(self) -> ColumnElement[bool]:
        """Trials that have failed, and are given up if they fail once more."""
        return Trial.failures >= max(self.retries, 1)

    def _failed(self, error: str) -> dict[str, Any]:
        """What becomes of a trial that is being run and fails."""
        again = case((Trial.failures >= self.retries, "failed"), else_="waiting")
        return {"status": again, "failures": Trial.failures + 1, "error": error, "lease_until": None}

    def _let_go(self) -> dict[int, int]:
        with self.guard:
            held, self.tokens = self.tokens, {}
        return held

    def _mine(self, held: dict[int, int]) -> ColumnElement[bool]:
        """The trials that are held, except those that were freed or claimed anew meanwhile."""
        return self._held(held) & (Trial.status == "running")

    def _held(self, held: dict[int, int]) -> ColumnElement[bool]:
        return tuple_(Trial.id, Trial.token).in_(list(held.items()))


def alive(worker: str) -> bool:
    """False only for a process of this machine that is certainly gone (or a zombie: nobody has collected it yet)."""
    host, *process_and_start = worker.rsplit(":", 2)
    if host != platform.node() or len(process_and_start) != 2:
        return True
    try:
        process = psutil.Process(int(process_and_start[0]))
        same = bool(abs(process.create_time() - float(process_and_start[1])) < 2)  # not another one with its number
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def free(database: Database, name: str | None, worker: str | None, everything: bool, failed: bool) -> tuple[int, int]:
    """Free running trials by hand: those of the dead, of one worker, or all. A result that still comes is refused.

    Args:
        database: the storage.
        name: the study, or None for the only one.
        worker: a worker's name, or the beginning of one (host:process).
        everything: free all that are running.
        failed: give trials that were given up another chance.

    Returns:
        how many were freed, and how many are given another chance.

    Raises:
        UserError: if the study or the worker does not exist.
    """
    study, _ = find_study(database, name)
    running = (Trial.study_id == study, Trial.status == "running")

    def change(connection: Connection) -> tuple[int, int]:
        holders = [row or "" for row in connection.scalars(select(Trial.worker).where(*running).distinct())]
        if worker is not None:
            chosen = [holder for holder in holders if holder == worker or holder.startswith(f"{worker}:")]
            if not chosen:
                if holders:
                    raise unknown("worker with running trials", worker, holders)
                raise UserError(f"no worker holds trials of this study: {worker!r} has none to free", "worker")
            over: ColumnElement[bool] = Trial.worker.in_(chosen)
        else:
            dead = [holder for holder in holders if not alive(holder)]
            over = or_(Trial.worker.in_(dead), Trial.lease_until < now(connection))
        where = running if everything and worker is None else (*running, over)
        fenced = {"status": "waiting", "lease_until": None, "token": Trial.token + 1}
        freed = connection.execute(update(Trial).where(*where).values(**fenced)).rowcount
        revived = 0
        if failed:
            lost = (Trial.study_id == study, Trial.status == "failed")
            revived = connection.execute(update(Trial).where(*lost).values(status="waiting", failures=0)).rowcount
        return freed, revived

    return write(database, change)
