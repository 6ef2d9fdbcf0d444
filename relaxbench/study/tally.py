"""How far a study is: counted in the database, so that what every worker does is in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, func, select

from relaxbench.store.schema import Trial
from relaxbench.store.transactions import read
from relaxbench.study.trials import PHASES, Plan


@dataclass
class Progress:
    """How far one method on one problem is.

    Attributes:
        problem, method: which.
        done, total: trials.
        failed: trials that have been given up.
        best: smallest validation loss found so far.
        running: trials that are being run, by phase.
    """

    problem: str
    method: str
    done: int
    total: int
    failed: int = 0
    best: float = math.inf
    running: dict[str, int] = field(default_factory=dict)


def tally(plans: Sequence[Plan]) -> list[Progress]:
    """The progress of every plan of a study.

    Of confirmations and recommended runs, those count whose parents still win; an extended study may have others.
    """
    study, size = plans[0].study, plans[0].size
    place = (Trial.problem, Trial.method, Trial.phase, Trial.status)
    counts = select(*place, func.count(), func.min(Trial.value)).where(Trial.study_id == study).group_by(*place)
    blocks = _children(study, "confirm", ("explore",), (Trial.block,), size.trials)
    searched = _children(study, "recommend", ("explore", "exploit"), (), size.of("explore") + size.of("exploit"))

    def count(connection: Connection) -> tuple[list[Any], list[Any]]:
        children = [row for query in (blocks, searched) for row in connection.execute(query)]
        return list(connection.execute(counts)), children

    rows, children = read(plans[0].database, count)
    found = {(p.problem, p.method): Progress(p.problem, p.method, 0, size.total) for p in plans}
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
            progress.done += 0 if phase in ("confirm", "recommend") else number
    for problem, method, number in children:
        if (problem, method) in found:
            found[problem, method].done += number
    for progress in found.values():
        progress.running = {phase: progress.running[phase] for phase in PHASES if phase in progress.running}
    return list(found.values())


def _children(
    study: int, phase: str, searched: tuple[str, ...], within: tuple[Any, ...], complete: int
) -> Select[str, str, int]:
    """How many trials of a phase are done whose parent is the best of a complete search."""
    group = (Trial.problem, Trial.method, *within)
    rank = func.row_number().over(partition_by=group, order_by=(Trial.value, Trial.id)).label("rank")
    size = func.count().over(partition_by=group).label("size")
    done = (Trial.study_id == study, Trial.status == "done")
    ranked = select(Trial.id, rank, size).where(*done, Trial.phase.in_(searched)).subquery()
    best = select(ranked.c.id).where(ranked.c.rank == 1, ranked.c.size >= complete)
    query = select(Trial.problem, Trial.method, func.count()).where(*done, Trial.phase == phase, Trial.parent.in_(best))
    return query.group_by(Trial.problem, Trial.method)
