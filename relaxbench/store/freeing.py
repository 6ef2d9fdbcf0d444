"""Free trials by hand when their workers do not."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, or_, select, update
from sqlalchemy import Engine as Database

from relaxbench.errors import UserError, unknown
from relaxbench.store.claims import alive
from relaxbench.store.schema import Trial
from relaxbench.store.studies import find_study
from relaxbench.store.transactions import now, write


def free(database: Database, name: str | None, worker: str | None, everything: bool, failed: bool) -> tuple[int, int]:
    """Free running trials: those of dead workers, of one worker, or all. Later results of their old claims are refused.

    Args:
        database: the storage.
        name: the study, or None for the only one.
        worker: a worker's name, or its beginning (host:process); None for the dead workers.
        everything: free all running trials.
        failed: also retry trials that were given up.

    Returns:
        how many were freed, and how many are retried.

    Raises:
        UserError: if the study or the worker does not exist.
    """
    study, _ = find_study(database, name)
    running = (Trial.study_id == study, Trial.status == "running")

    def change(connection: Connection) -> tuple[int, int]:
        holders = [row or "" for row in connection.scalars(select(Trial.worker).where(*running).distinct())]
        if worker is not None:
            named = [holder for holder in holders if holder == worker or holder.startswith(f"{worker}:")]
            if not named:
                if holders:
                    raise unknown("worker with running trials", worker, holders)
                raise UserError(f"no worker holds trials of this study: {worker!r} has none to free", "worker")
            over: ColumnElement[bool] = Trial.worker.in_(named)
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
