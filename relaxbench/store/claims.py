"""Claims of workers on trials. A claim is a lease with a token in the trials table; a result needs the latest token."""

from __future__ import annotations

import platform
import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
from sqlalchemy import ColumnElement, Connection, Engine, bindparam, case, func, insert, or_, select, tuple_, update

from relaxbench.store.schema import FINISHED, Curve, Trial, Weights
from relaxbench.store.transactions import COURTESY_SECONDS, now, read, write

LEASE_SECONDS = 120.0
"""A worker that has not renewed its claims for this long counts as dead."""
RETRIES = 3
"""How often a trial is retried after a failure, by default."""
DIED = "its worker died"
"""The error of a trial whose worker died without reporting one."""

# The statements of every round, built once. SQLite has locked the file already, and ignores FOR UPDATE.
_FREE = (
    select(Trial.id)
    .where(Trial.study_id == bindparam("study"), Trial.problem == bindparam("problem"))
    .where(Trial.method == bindparam("method"), Trial.status == "waiting")
    .where(Trial.id.not_in(bindparam("here", expanding=True)))
    .order_by(Trial.phase, Trial.id)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)
FREE, FREE_ALONE = (_FREE.where(Trial.failures < bindparam("last")), _FREE.where(Trial.failures >= bindparam("last")))
_TAKEN = Trial.id.in_(bindparam("ids", expanding=True))
CLAIM = (
    update(Trial)
    .where(_TAKEN)
    .values(status="running", worker=bindparam("claimer"), token=Trial.token + 1, lease_until=bindparam("until"))
)
CLAIMED = select(Trial.__table__).where(_TAKEN)
FINISH = update(Trial).where(
    Trial.id == bindparam("trial"), Trial.token == bindparam("claim"), Trial.status.not_in(FINISHED)
)
"""Takes the new values by the names of their columns."""
KEEP_CURVE, KEEP_WEIGHTS = insert(Curve), insert(Weights)


def worker_name(process: psutil.Process | None = None) -> str:
    """Name a process (default: this one) by host, process number and start time, so that its death can be detected."""
    process = process or psutil.Process()
    return f"{platform.node()}:{process.pid}:{process.create_time():.0f}"


@dataclass(frozen=True)
class Result:
    """The stored result of a finished trial; see `schema.Trial` for the fields."""

    trial: int
    token: int
    value: float
    diverged: bool
    measures: dict[str, Any]
    ledger: dict[str, Any]
    curve: bytes
    correct: bytes | None = None
    weights: bytes | None = None
    pruned: bool = False


@dataclass
class Claims:
    """The claims of one worker on one study. `renew` may be called from a second thread.

    Attributes:
        engine: the database.
        study: id of the study.
        worker: see `worker_name`.
        retries: a trial that has failed more often than this is given up.
        tokens: by trial id, for the trials that this worker holds.
        lost: trials that this worker held and another worker has claimed since; stop working on them.
    """

    engine: Engine
    study: int
    worker: str = field(default_factory=worker_name)
    retries: int = RETRIES
    tokens: dict[int, int] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    guard: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def take(self, problem: str, method: str, limit: int, alone: bool = False) -> list[Trial]:
        """Claim at most `limit` waiting trials in one transaction, except those that this worker is still running.

        Confirmations come first, then TPE's generations, then random trials, each in order of id, so that the longest
        chain of trials that depend on each other starts earliest. The names of the phases sort in this order.

        Args:
            problem: of the trials.
            method: of the trials.
            limit: how many.
            alone: take one trial whose next failure would be its last, and no other trial with it, so that a failure
                can only be its own.
        """
        if limit <= 0:
            return []
        with self.guard:
            here = [*self.tokens, *self.lost]
        free = {"study": self.study, "problem": problem, "method": method, "last": max(self.retries, 1)}
        asked = {**free, "here": here, "limit": 1 if alone else limit}

        claimed: dict[int, int] = {}

        def claim(connection: Connection) -> list[Trial]:
            if claimed:  # the attempt before has claimed these, and only its answer was lost
                mine = select(Trial.__table__).where(self._mine(claimed), Trial.worker == self.worker)
                if rows := connection.execute(mine).all():
                    return [Trial(**row._mapping) for row in rows]
            ids = list(connection.scalars(FREE_ALONE if alone else FREE, asked))
            if not ids:
                return []
            until = now(connection) + LEASE_SECONDS
            connection.execute(CLAIM, {"ids": ids, "claimer": self.worker, "until": until})
            rows = connection.execute(CLAIMED, {"ids": ids}).all()
            claimed.clear()
            claimed.update({row.id: row.token for row in rows})
            return [Trial(**row._mapping) for row in rows]

        trials = sorted(write(self.engine, claim), key=lambda trial: (trial.phase, trial.id))
        with self.guard:
            self.tokens.update({trial.id: trial.token for trial in trials})
        return trials

    def open(self) -> defaultdict[tuple[str, str], Counter[str]]:
        """Count trials by problem, method and status; waiting trials on their last attempt count as ``alone``."""
        waits = Trial.status == "waiting"
        kind = case((waits & self._last_attempt(), "alone"), else_=Trial.status).label("kind")
        place = (Trial.problem, Trial.method, kind)
        query = select(*place, func.count()).where(Trial.study_id == self.study).group_by(*place)
        counts: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for problem, method, what, count in read(self.engine, lambda connection: connection.execute(query).all()):
            counts[problem, method][what] = count
        return counts

    def renew(self) -> None:
        """Extend the leases of all held trials; move those that another worker has claimed to `lost`.

        A trial that was freed because this worker counted as dead is taken back if no other worker has claimed it.
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
        """Give back all held trials, for any worker to continue.

        Raises:
            UserError: if the database does not answer; the leases then expire.
        """
        held = self._let_go()
        if held:
            back = update(Trial).where(self._mine(held)).values(status="waiting", lease_until=None)
            write(self.engine, lambda connection: connection.execute(back), COURTESY_SECONDS)

    def fail(self, error: str) -> None:
        """Give back all held trials because of an error; each is retried, or given up if it has failed too often."""
        held = self._let_go()
        if held:
            back = update(Trial).where(self._mine(held)).values(**self._failed(error))
            write(self.engine, lambda connection: connection.execute(back))

    def finish(self, results: Sequence[Result]) -> int:
        """Store results in one transaction; returns how many were stored.

        A result is dropped if another worker has claimed its trial since. A lease that has expired does no harm
        otherwise.
        """

        def store(connection: Connection) -> int:
            stored = 0
            for result in results:
                values = {
                    "status": "pruned" if result.pruned else "done",
                    "lease_until": None,
                    "worker": self.worker,
                    "value": result.value,
                    "diverged": result.diverged,
                    "measures": result.measures,
                    "ledger": result.ledger,
                    "correct": result.correct,
                    "finished_at": now(connection),
                }
                mine = {"trial": result.trial, "claim": result.token}
                if not connection.execute(FINISH, {**values, **mine}).rowcount:
                    continue
                stored += 1
                connection.execute(KEEP_CURVE, {"trial_id": result.trial, "data": result.curve})
                if result.weights is not None:
                    connection.execute(KEEP_WEIGHTS, {"trial_id": result.trial, "data": result.weights})
            return stored

        stored = write(self.engine, store) if results else 0
        with self.guard:
            for result in results:
                self.tokens.pop(result.trial, None)
        return stored

    def reap(self) -> int:
        """Free the trials of dead workers: of this machine at once, of others when their leases have expired."""

        def free(connection: Connection) -> int:
            running = (Trial.study_id == self.study, Trial.status == "running")
            holders = connection.scalars(select(Trial.worker).where(*running).distinct()).all()
            dead = [name for name in holders if name and name != self.worker and not alive(name)]
            over = or_(Trial.worker.in_(dead), Trial.lease_until < now(connection))
            return connection.execute(update(Trial).where(*running, over).values(**self._failed(DIED))).rowcount

        waiting = (Trial.study_id == self.study, Trial.status == "running")
        return write(self.engine, free) if self.count(*waiting) else 0

    def free(self, workers: Sequence[str]) -> None:
        """Give back the trials of workers that were ended on purpose; this counts as no failure.

        Raises:
            UserError: if the database does not answer; the leases then expire.
        """
        held = (Trial.study_id == self.study, Trial.status == "running", Trial.worker.in_(workers))
        back = update(Trial).where(*held).values(status="waiting", lease_until=None)
        write(self.engine, lambda connection: connection.execute(back), COURTESY_SECONDS)

    def count(self, *where: ColumnElement[bool]) -> int:
        """Count the study's trials that satisfy all conditions."""
        query = select(func.count()).select_from(Trial).where(Trial.study_id == self.study, *where)
        return read(self.engine, lambda connection: connection.scalar(query)) or 0

    def _last_attempt(self) -> ColumnElement[bool]:
        """A condition: trials that are given up if they fail once more."""
        return Trial.failures >= max(self.retries, 1)

    def _failed(self, error: str) -> dict[str, Any]:
        """New column values of a running trial that fails."""
        again = case((Trial.failures >= self.retries, "failed"), else_="waiting")
        return {"status": again, "failures": Trial.failures + 1, "error": error, "lease_until": None}

    def _let_go(self) -> dict[int, int]:
        with self.guard:
            held, self.tokens = self.tokens, {}
        return held

    def _mine(self, held: dict[int, int]) -> ColumnElement[bool]:
        """A condition: the held trials, except those that were freed or claimed by another worker since."""
        return self._held(held) & (Trial.status == "running")

    def _held(self, held: dict[int, int]) -> ColumnElement[bool]:
        return tuple_(Trial.id, Trial.token).in_(list(held.items()))


def alive(worker: str) -> bool:
    """Whether a worker may be alive; false only for a process of this machine that is gone or a zombie."""
    host, *process_and_start = worker.rsplit(":", 2)
    if host != platform.node() or len(process_and_start) != 2:
        return True
    try:
        process = psutil.Process(int(process_and_start[0]))
        same = bool(abs(process.create_time() - float(process_and_start[1])) < 2)  # else another process has its number
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
