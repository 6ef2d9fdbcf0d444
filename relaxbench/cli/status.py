"""`status`: the workers of a study, its running trials, and those that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from relaxbench.cli.console import console
from relaxbench.cli.options import STORAGE, Storage, Study, reader
from relaxbench.util.text import counted

if TYPE_CHECKING:
    from sqlalchemy import Engine as Database

SHOWN = 20
"""Failed trials that are listed."""


def status(study: Study = None, storage: Storage = STORAGE) -> None:
    """Who works on a study: workers, running trials and their last sign of life, and trials that failed."""
    for part in status_tables(reader(storage), study):
        console.print(part)


def status_tables(database: Database, name: str | None) -> list[RenderableType]:
    """Workers, trials by method and status, and failed trials with what was said last."""
    from sqlalchemy import func, select

    from relaxbench.cli.progress import crew_table
    from relaxbench.store.schema import Trial
    from relaxbench.store.studies import find
    from relaxbench.store.transactions import read
    from relaxbench.store.workers import at_work, workers

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
    parts: list[RenderableType] = [Text(f"Study {name}", style="italic")]
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
