"""How far a study is: counted in the database, so that what every worker does is in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, func, select
from sqlalchemy import Engine as Database

from relaxbench.store.schema import PHASES, SEARCHED, Trial
from relaxbench.store.transactions import read
from relaxbench.store.winners import ranking
from relaxbench.study.coordination.plan import Plan, Size


@dataclass
class Progress:
    """How far one method on one problem is.

    Attributes:
        problem, method: which.
        done, total: trials.
        failed: trials that have been given up.
        best: smallest validation loss found so far.
        running: trials that are being run, by phase.
        phases: trials that are done, by phase.
    """

    problem: str
    method: str
    done: int
    total: int
    failed: int = 0
    best: float = math.inf
    running: dict[str, int] = field(default_factory=dict)
    phases: dict[str, int] = field(default_factory=dict)


def tally(plans: Sequence[Plan]) -> list[Progress]:
    """The progress of every plan of a study."""
    first = plans[0]
    return count(first.database, first.study, first.size, [(plan.problem, plan.method) for plan in plans])


def count(database: Database, study: int, size: Size, places: Sequence[tuple[str, str]]) -> list[Progress]:
    """The progress of methods on problems.

    Of confirmations and recommended runs, those count whose parents still win; an extended study may have others.

    Args:
        database: where the trials lie.
        study: id of the study.
        size: how many there are to be.
        places: (problem, method), in the order of what is returned.
    """
    key = (Trial.problem, Trial.method, Trial.phase, Trial.status)
    counts = select(*key, func.count(), func.min(Trial.value)).where(Trial.study_id == study).group_by(*key)
    blocks = _children(study, "confirm", ("explore",), (Trial.block,), size.trials)
    searched = _children(study, "recommend", SEARCHED, (), sum(size.of(phase) for phase in SEARCHED))

    def counted(connection: Connection) -> tuple[list[Any], list[Any]]:
        children = {"confirm": connection.execute(blocks), "recommend": connection.execute(searched)}
        current = [(phase, *row) for phase, found in children.items() for row in found]
        return list(connection.execute(counts)), current

    rows, children = read(database, counted)
    found = {place: Progress(*place, 0, size.total) for place in places}
    for problem, method, phase, status, number, best in rows:
        progress = found.get((problem, method))
        if progress is None:
            continue
        if status == "running":
            progress.running[phase] = number
        elif status == "failed":
            progress.failed += number
        elif status == "done":
            progress.best = min(progress.best, best)
            if phase not in ("confirm", "recommend"):
                progress.phases[phase] = number
    for phase, problem, method, number in children:
        if (problem, method) in found:
            found[problem, method].phases[phase] = number
    for progress in found.values():
        progress.done = sum(progress.phases.values())
        progress.running = {phase: progress.running[phase] for phase in PHASES if phase in progress.running}
    return list(found.values())


def _children(
    study: int, phase: str, searched: tuple[str, ...], within: tuple[Any, ...], complete: int
) -> Select[str, str, int]:
    """How many trials of a phase are done whose parent is the best of a complete search."""
    group = (Trial.problem, Trial.method, *within)
    rank = func.row_number().over(partition_by=group, order_by=ranking()).label("rank")
    size = func.count().over(partition_by=group).label("size")
    done = (Trial.study_id == study, Trial.status == "done")
    ranked = select(Trial.id, rank, size).where(*done, Trial.phase.in_(searched)).subquery()
    best = select(ranked.c.id).where(ranked.c.rank == 1, ranked.c.size >= complete)
    query = select(Trial.problem, Trial.method, func.count()).where(*done, Trial.phase == phase, Trial.parent.in_(best))
    return query.group_by(Trial.problem, Trial.method)
