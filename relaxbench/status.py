"""Who works on a study: workers and their last sign of life, running and failed trials; and freeing trials by hand."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text
from sqlalchemy import ColumnElement, Connection, func, or_, select, update
from sqlalchemy import Engine as Database

from relaxbench.display import crew_table
from relaxbench.errors import UserError, unknown
from relaxbench.store.claims import alive
from relaxbench.store.schema import Study, Trial
from relaxbench.store.studies import meant
from relaxbench.store.transactions import now, read, write
from relaxbench.store.workers import at_work, workers
from relaxbench.words import counted

SHOWN = 20
"""Failed trials that are listed."""


def find(database: Database, name: str | None) -> tuple[int, str]:
    """The id and the name of a study; None means the only one there is.

    Raises:
        UserError: if there is none of that name, or more than one to choose from.
    """
    query = select(Study.name, Study.id).order_by(Study.id)
    ids = {row.name: row.id for row in read(database, lambda connection: connection.execute(query).all())}
    name = meant(ids, name)
    return ids[name], name


def status_tables(database: Database, name: str | None) -> list[Any]:
    """Workers, trials by method and status, and failed trials with what was said last."""
    study, name = find(database, name)
    place = (Trial.problem, Trial.method, Trial.status)
    counts = select(*place, func.count()).where(Trial.study_id == study).group_by(*place).order_by(*place)
    failures = select(Trial).where(Trial.study_id == study, Trial.failures > 0, Trial.status != "done")
    failures = failures.order_by(Trial.failures.desc(), Trial.id)
    rows = read(database, lambda connection: connection.execute(counts).all())
    troubled = read(database, lambda connection: connection.execute(select(failures.subquery())).all())
    crew = workers(database, study)
    working = [row for row in crew if at_work(row)]
    gone = [row for row in crew if row.ended_at is None and row.running and not at_work(row)]
    ended = len(crew) - len(working) - len(gone)
    parts: list[Any] = [Text(f"Study {name}", style="italic")]
    if not working:
        parts.append(Text("Nobody is working on it."))
    parts += crew_table([*working, *gone], shown=1000)
    if gone:
        held = sum(row.running for row in gone)
        parts.append(Text(f"{counted(held, 'trial')} of workers that are gone: any other worker will free them."))
    if ended:
        parts.append(Text(f"{counted(ended, 'session')} before.", style="dim"))
    states = ("waiting", "running", "failed", "done")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("problem", "method", *states):
        table.add_column(column, justify="right" if column in states else "left")
    for key in dict.fromkeys((row.problem, row.method) for row in rows):
        found = {row.status: row[3] for row in rows if (row.problem, row.method) == key}
        table.add_row(*map(Text, key), *(f"{found.get(state, 0):,}" for state in states))
    parts += [Text(), table]
    if troubled:
        parts += [Text(), Text(f"{counted(len(troubled), 'trial')} had to be given back:")]
        for row in troubled[:SHOWN]:
            what = f"  {row.problem} {row.method} {row.phase} {row.block}.{row.number} (id {row.id})"
            fate = "given up" if row.status == "failed" else f"{row.status} again"
            parts.append(Text(f"{what}: {row.failures}×, {fate}; {row.error}"))
        if len(troubled) > SHOWN:
            parts.append(Text(f"  and {len(troubled) - SHOWN:,} more", style="dim"))
    return parts


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
    study, _ = find(database, name)
    running = (Trial.study_id == study, Trial.status == "running")

    def change(connection: Connection) -> tuple[int, int]:
        holders = [row or "" for row in connection.scalars(select(Trial.worker).where(*running).distinct())]
        if worker is not None:
            chosen = [holder for holder in holders if holder == worker or holder.startswith(f"{worker}:")]
            if not chosen:
                raise (
                    unknown("worker with running trials", worker, holders)
                    if holders
                    else UserError(
                        f"--worker {worker!r}: no worker holds trials of this study, so there is nothing to free"
                    )
                )
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
