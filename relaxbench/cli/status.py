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
"""Largest number of failed trials to list."""


def status(study: Study = None, storage: Storage = STORAGE) -> None:
    """Show the workers of a study, when each was last seen, and the trials that run or have failed."""
    for part in status_tables(reader(storage), study):
        console.print(part)


def status_tables(database: Database, name: str | None) -> list[RenderableType]:
    """Return the workers, the trials by method and status, and the failed trials with their last error."""
    from sqlalchemy import func, select

    from relaxbench.cli.progress import workers_table
    from relaxbench.store.schema import Trial
    from relaxbench.store.soundness import check_stored, sound
    from relaxbench.store.studies import find_study
    from relaxbench.store.transactions import read
    from relaxbench.store.workers import at_work, workers
    from relaxbench.study.coordination.progress import look_words, read_progress

    study, name = find_study(database, name)
    check_stored(database, name)
    place = (Trial.problem, Trial.method, Trial.status)
    counts = select(*place, func.count()).where(Trial.study_id == study).group_by(*place).order_by(*place)
    failures = select(Trial).where(Trial.study_id == study, Trial.failures > 0, Trial.status != "done")
    failures = failures.order_by(Trial.failures.desc(), Trial.id)
    rows = read(database, lambda connection: connection.execute(counts).all())
    failed = read(database, lambda connection: connection.execute(select(failures.subquery())).all())
    known = workers(database, study)
    working = [row for row in known if at_work(row)]
    gone = [row for row in known if row.ended_at is None and row.running and not at_work(row)]
    ended = len(known) - len(working) - len(gone)
    parts: list[RenderableType] = [Text(f"Study {name}", style="italic")]
    with sound(name):
        words = look_words(read_progress(database, study))
    if words:
        parts.append(Text(f"{words[0].upper()}{words[1:]}."))
    if not working:
        parts.append(Text("No worker is running."))
    parts += workers_table([*working, *gone], shown=1000)
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
        count = {row.status: row[3] for row in rows if (row.problem, row.method) == key}
        table.add_row(*map(Text, key), *(f"{count.get(state, 0):,}" for state in states))
    parts += [Text(), table]
    if failed:
        parts += [Text(), Text(f"{counted(len(failed), 'trial')} failed at least once:")]
        for row in failed[:SHOWN]:
            what = f"  {row.problem} {row.method} {row.phase} {row.block}.{row.number} (id {row.id})"
            fate = "given up" if row.status == "failed" else f"{row.status} again"
            parts.append(Text(f"{what}: {row.failures}×, {fate}; {row.error}"))
        if len(failed) > SHOWN:
            parts.append(Text(f"  and {len(failed) - SHOWN:,} more", style="dim"))
    return parts
