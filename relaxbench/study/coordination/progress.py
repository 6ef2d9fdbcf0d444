"""The progress of a study, counted in the database, so that it includes the work of all workers."""

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
    """The progress of one method on one problem.

    Attributes:
        problem, method: names.
        done, total: numbers of trials.
        failed: number of trials that have been given up.
        best: smallest validation loss so far.
        running: number of running trials, by phase.
        phases: number of finished trials, by phase.
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

    Confirmations and recommended runs count only while their parents win; an extended study may have others.

    Args:
        database: that holds the trials.
        study: id of the study.
        size: planned numbers of trials.
        places: pairs (problem, method), in the order of the result.
    """
    key = (Trial.problem, Trial.method, Trial.phase, Trial.status)
    counts = select(*key, func.count(), func.min(Trial.value)).where(Trial.study_id == study).group_by(*key)
    blocks = _children(study, "confirm", ("explore",), (Trial.block,), size.trials)
    searched = _children(study, "recommend", SEARCHED, (), sum(size.of(phase) for phase in SEARCHED))

    def query(connection: Connection) -> tuple[list[Any], list[Any]]:
        children = {"confirm": connection.execute(blocks), "recommend": connection.execute(searched)}
        current = [(phase, *row) for phase, group in children.items() for row in group]
        return list(connection.execute(counts)), current

    rows, children = read(database, query)
    by_place = {place: Progress(*place, 0, size.total) for place in places}
    for problem, method, phase, status, number, best in rows:
        progress = by_place.get((problem, method))
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
        if (problem, method) in by_place:
            by_place[problem, method].phases[phase] = number
    for progress in by_place.values():
        progress.done = sum(progress.phases.values())
        progress.running = {phase: progress.running[phase] for phase in PHASES if phase in progress.running}
    return list(by_place.values())


def _children(
    study: int, phase: str, searched: tuple[str, ...], within: tuple[Any, ...], complete: int
) -> Select[str, str, int]:
    """Count the finished trials of a phase whose parent is the winner of a complete search."""
    group = (Trial.problem, Trial.method, *within)
    rank = func.row_number().over(partition_by=group, order_by=ranking()).label("rank")
    size = func.count().over(partition_by=group).label("size")
    done = (Trial.study_id == study, Trial.status == "done")
    ranked = select(Trial.id, rank, size).where(*done, Trial.phase.in_(searched)).subquery()
    best = select(ranked.c.id).where(ranked.c.rank == 1, ranked.c.size >= complete)
    query = select(Trial.problem, Trial.method, func.count()).where(*done, Trial.phase == phase, Trial.parent.in_(best))
    return query.group_by(Trial.problem, Trial.method)
