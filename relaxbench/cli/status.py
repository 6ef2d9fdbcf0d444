"""`status`: the workers of a study, its running trials, and those that failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from relaxbench.cli.as_json import AsJson, print_json
from relaxbench.cli.console import console
from relaxbench.cli.grouped_table import GroupedTable
from relaxbench.cli.options import STORAGE, Storage, Study, reader
from relaxbench.util.text import counted

if TYPE_CHECKING:
    from sqlalchemy import Engine as Database

SHOWN = 20
"""Largest number of failed trials to list."""


STATES = ("waiting", "running", "failed", "done", "pruned")
"""Of a trial, in the order of the columns; the last one only where there are such trials."""


def status(study: Study = None, storage: Storage = STORAGE, as_json: AsJson = False) -> None:
    """Show the workers of a study, when each was last seen, and the trials that run or have failed."""
    if as_json:
        print_json(status_answer(reader(storage), study))
        return
    for part in status_tables(reader(storage), study):
        console.print(part)


@dataclass(frozen=True)
class Status:
    """What goes on in a study.

    Attributes:
        name: of the study.
        look: the look that it is at, in words; "" if all is done.
        working, gone: the rows of its workers: those at work, and those that left trials behind.
        ended: number of sessions that are over.
        counts: problem and method → state → number of trials.
        failed: the rows of trials that failed at least once and are not done.
    """

    name: str
    look: str
    working: list[Any]
    gone: list[Any]
    ended: int
    counts: dict[tuple[str, str], dict[str, int]]
    failed: list[Any]


def read_status(database: Database, name: str | None) -> Status:
    """Read the workers of a study, and its trials by method and state.

    Raises:
        UserError: if there is no such study, or several and none is named.
    """
    from sqlalchemy import func, select

    from relaxbench.store.schema import FINISHED, Trial
    from relaxbench.store.soundness import check_stored, sound
    from relaxbench.store.studies import find_study
    from relaxbench.store.transactions import read
    from relaxbench.store.workers import at_work, workers
    from relaxbench.study.coordination.progress import look_words, read_progress

    study, name = find_study(database, name)
    check_stored(database, name)
    place = (Trial.problem, Trial.method, Trial.status)
    query = select(*place, func.count()).where(Trial.study_id == study).group_by(*place).order_by(*place)
    failures = select(Trial).where(Trial.study_id == study, Trial.failures > 0, Trial.status.not_in(FINISHED))
    failures = failures.order_by(Trial.failures.desc(), Trial.id)
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for problem, method, state, number in read(database, lambda connection: connection.execute(query).all()):
        counts.setdefault((problem, method), dict.fromkeys(STATES, 0))[state] = number
    failed = read(database, lambda connection: connection.execute(select(failures.subquery())).all())
    known = workers(database, study)
    working = [row for row in known if at_work(row)]
    gone = [row for row in known if row.ended_at is None and row.running and not at_work(row)]
    with sound(name):
        look = look_words(read_progress(database, study))
    return Status(name, look, working, gone, len(known) - len(working) - len(gone), counts, list(failed))


def status_answer(database: Database, name: str | None) -> dict[str, Any]:
    """Return what `status --json` prints."""
    now = read_status(database, name)
    sessions = [*((row, "working") for row in now.working), *((row, "gone") for row in now.gone)]
    own = ("id", "problem", "method", "phase", "block", "number", "failures", "status", "error")
    return {
        "study": now.name,
        "look": now.look or None,
        "workers": [
            {
                "name": row.name,
                "state": state,
                "device": row.device,
                "doing": row.doing,
                "running": row.running,
                "finished": row.finished,
                "seen_seconds_ago": row.silent,
            }
            for row, state in sessions
        ],
        "sessions_ended": now.ended,
        "trials": [{"problem": key[0], "method": key[1], **count} for key, count in now.counts.items()],
        "failed": [{column: getattr(row, column) for column in own} for row in now.failed],
    }


def status_tables(database: Database, name: str | None) -> list[RenderableType]:
    """Return the workers, the trials by method and status, and the failed trials with their last error."""
    from relaxbench.cli.progress import workers_table

    now = read_status(database, name)
    parts: list[RenderableType] = [Text(f"Study {now.name}", style="italic")]
    if now.look:
        parts.append(Text(f"{now.look[0].upper()}{now.look[1:]}."))
    if not now.working:
        parts.append(Text("No worker is running."))
    parts += workers_table([*now.working, *now.gone], shown=1000)
    if now.gone:
        held = sum(row.running for row in now.gone)
        parts.append(Text(f"{counted(held, 'trial')} of workers that are gone: any other worker will free them."))
    if now.ended:
        parts.append(Text(f"{counted(now.ended, 'session')} before.", style="dim"))
    shown = STATES if any(count["pruned"] for count in now.counts.values()) else STATES[:-1]
    listing = GroupedTable("", "method", shown)
    for problem in dict.fromkeys(problem for problem, _ in now.counts):
        mine = {method: count for (known, method), count in now.counts.items() if known == problem}
        listing.add(problem, {method: [f"{count[state]:,}" for state in shown] for method, count in mine.items()})
    failed = now.failed
    parts += [Text(), listing.table]
    if failed:
        parts += [Text(), Text(f"{counted(len(failed), 'trial')} failed at least once:")]
        for row in failed[:SHOWN]:
            what = f"  {row.problem} {row.method} {row.phase} {row.block}.{row.number} (id {row.id})"
            fate = "given up" if row.status == "failed" else f"{row.status} again"
            parts.append(Text(f"{what}: {row.failures}×, {fate}; {row.error}"))
        if len(failed) > SHOWN:
            parts.append(Text(f"  and {len(failed) - SHOWN:,} more", style="dim"))
    return parts
