"""The progress of a study, counted in the database, so that it includes the work of all workers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

from sqlalchemy import Connection, Select, case, func, select
from sqlalchemy import Engine as Database

from relaxbench.store.allowance import affordable, bills
from relaxbench.store.facts import method_facts
from relaxbench.store.schema import FINISHED, PHASES, SEARCHED, SPOT_CHECK, Study, Trial
from relaxbench.store.transactions import read
from relaxbench.store.winners import ranking
from relaxbench.study.coordination.plan import Plan
from relaxbench.study.coordination.size import Size
from relaxbench.util.text import counted

built_once = lru_cache(maxsize=100)
"""Of queries: the progress is asked for again and again, and SQLite answers sooner than SQLAlchemy builds them."""

Place: TypeAlias = tuple[str, str]
"""Problem and method."""


@dataclass
class Progress:
    """The progress of one method on one problem, up to the look that it has reached.

    Attributes:
        problem, method: names.
        done, total: numbers of trials.
        failed: number of trials that have been given up.
        best: smallest validation loss so far among the trials of the search, of which `winners` names the winner; runs
            on fresh seeds do not count, but those of a method as published, which has no others.
        running: number of running trials, by phase.
        phases: number of finished trials, by phase.
        planned: number of planned trials, by phase.
        look: the number of the look that is being worked on, from 1; of repetitions, the furthest one.
        looks: the number of declared looks.
        blocks: of that look.
    """

    problem: str
    method: str
    done: int
    total: int
    failed: int = 0
    best: float = math.inf
    running: dict[str, int] = field(default_factory=dict)
    phases: dict[str, int] = field(default_factory=dict)
    planned: dict[str, int] = field(default_factory=dict)
    look: int = 1
    looks: int = 1
    blocks: int = 0

    @property
    def words(self) -> str:
        """The look that is being worked on, for people: ``look 1 of 3: 10 blocks``."""
        if self.look > self.looks:
            return f"beyond the last look: {counted(self.blocks, 'block')}"
        return f"look {self.look} of {self.looks}: {counted(self.blocks, 'block')}"


def current_look(progress: Sequence[Progress]) -> str:
    """Say up to which look trials are counted, where a study has several: "up to look 1 of 3 (10 blocks)"."""
    unfinished = [p for p in progress if p.done < p.total and (p.looks > 1 or p.look > p.looks)]
    if not unfinished:
        return ""
    place, _, blocks = min(unfinished, key=lambda p: p.look).words.partition(": ")
    return f"{place} ({blocks})" if place.startswith("beyond") else f"up to {place} ({blocks})"


def look_words(progress: Sequence[Progress]) -> str:
    """Name the earliest look that is being worked on, and say that nothing is decided before it; "" if all is done."""
    unfinished = [p for p in progress if p.done < p.total]
    if not unfinished:
        return ""
    first = min(unfinished, key=lambda p: p.look)
    if first.look > first.looks:
        return f"{first.words}; the guarantee of the verdicts is gone"
    return f"{first.words}; nothing is decided before it is complete"


def read_progress(database: Database, study: int) -> list[Progress]:
    """The progress of a study, from its row alone."""
    query = select(Study.spec, Study.manifest).where(Study.id == study)
    row = read(database, lambda connection: connection.execute(query).one())
    methods = row.spec.get("methods", ())
    about = {method: method_facts(row.manifest, method) for method in methods}
    sizes = {
        (problem, method): Size.of(row.spec, facts, row.manifest, problem)
        for problem in row.spec.get("problems", ())
        for method, facts in about.items()
    }
    return count(database, study, sizes) if sizes else []


def tally(plans: Sequence[Plan]) -> list[Progress]:
    """The progress of every plan of a study."""
    first = plans[0]
    return count(first.database, first.study, {(plan.problem, plan.method): plan.size for plan in plans})


def count(database: Database, study: int, sizes: Mapping[Place, Size]) -> list[Progress]:
    """The progress of methods on problems, in the order of `sizes`.

    Confirmations count while their trials are among the best, recommended runs while their parents win; further blocks
    may change both.

    Args:
        database: that holds the trials.
        study: id of the study.
        sizes: planned numbers of trials, by problem and method.
    """
    # Those of one study differ in whether a method has trials, whether only winners are confirmed, and in a pruner.
    kinds: dict[tuple[bool, bool], list[Size]] = {}
    for each in sizes.values():
        kinds.setdefault(_kind(each), []).append(each)
    examples = [max(kind, key=lambda size: size.trials) for kind in kinds.values()]
    example = max(sizes.values(), key=lambda size: size.trials)
    confirmations = [_confirmed(study, each) for each in examples]
    pruned = {method for (_, method), size in sizes.items() if size.budget is not None}
    paid = [bills(Trial.study_id == study, Trial.method.in_(pruned))] if pruned else []
    queries = (_counts(study), _reached(study, example), _recommended(study, example), *confirmations, *paid)

    def query(connection: Connection) -> list[list[Any]]:
        return [list(connection.execute(query)) for query in queries]

    rows, reached, recommended, *confirmed = read(database, query)
    spent = {(problem, method, block): (n, cost) for problem, method, block, n, cost in confirmed.pop()} if paid else {}
    blocks = {place: size.first for place, size in sizes.items()}
    for problem, method, phase, repetition, begun in reached:
        size = sizes.get((problem, method))
        if size and phase == ("explore" if size.trials else "confirm") and repetition < size.repetitions:
            known = blocks[problem, method]
            known[repetition] = max(known[repetition], begun)
    children = {
        ("confirm", *row[:2]): row[2]
        for each, found in zip(examples, confirmed, strict=True)
        for row in found
        if (size := sizes.get((row[0], row[1]))) and _kind(size) == _kind(each)
    }
    children |= {("recommend", *row[:2]): row[2] for row in recommended}
    checks = Counter[Place]()
    for problem, method, phase, _, number, _ in rows:
        checks[problem, method] += number if phase == SPOT_CHECK else 0
    by_place = {}
    for place, size in sizes.items():
        follows: dict[str, int] = {}
        if size.budget is not None:
            whole = _trials(place, size, size.budget, blocks[place], spent)
            follows = {"explore": whole, SPOT_CHECK: checks[place]}
        by_place[place] = _start(place, size, blocks[place], follows)
    for problem, method, phase, status, number, best in rows:
        progress = by_place.get((problem, method))
        if progress is None:
            continue
        if status == "running":
            progress.running[phase] = number
        elif status == "failed":
            progress.failed += number
        elif status in FINISHED:
            if status == "done" and phase in (SEARCHED if sizes[problem, method].trials else ("confirm",)):
                progress.best = min(progress.best, best)
            repeats = phase in ("confirm", "recommend") and sizes[problem, method].trials
            number = children.get((phase, problem, method), 0) if repeats else number
            progress.phases[phase] = progress.phases.get(phase, 0) + number
    for progress in by_place.values():
        progress.phases = {phase: count for phase, count in progress.phases.items() if count}
        progress.done = sum(progress.phases.values())
        progress.running = {phase: progress.running[phase] for phase in PHASES if phase in progress.running}
    return list(by_place.values())


def _kind(size: Size) -> tuple[bool, bool]:
    """What the query of confirmations depends on."""
    return size.winners_only, size.budget is not None


def _trials(
    place: Place, size: Size, budget: int, blocks: list[int], spent: Mapping[tuple[str, str, int], tuple[int, float]]
) -> int:
    """The trials of a method with a pruner: the finished ones, and whole ones for what its blocks have left."""
    total = 0
    for repetition, count in enumerate(blocks):
        for block in range(repetition * size.looks[-1], repetition * size.looks[-1] + count):
            finished, cost = spent.get((*place, block), (0, 0.0))
            total += finished + affordable(size.trials, budget, cost)
    return total


def _start(place: Place, size: Size, blocks: list[int], follows: Mapping[str, int]) -> Progress:
    """The progress of a method of which nothing is done, at the looks that its repetitions have reached.

    Args:
        place: problem and method.
        size: of the method there.
        blocks: of each repetition.
        follows: trials by phase, where they follow from results.
    """
    planned, furthest = {**size.planned(blocks), **follows}, max(blocks)
    total = sum(planned.values())
    return Progress(*place, 0, total, planned=planned, look=size.look(furthest), looks=size.declared, blocks=furthest)


@built_once
def _counts(study: int) -> Select[Any, Any, Any, Any, int, Any]:
    """Count the trials and find their smallest loss, by problem, method, phase and status."""
    key = (Trial.problem, Trial.method, Trial.phase, Trial.status)
    return select(*key, func.count(), func.min(Trial.value)).where(Trial.study_id == study).group_by(*key)


@built_once
def _reached(study: int, size: Size) -> Select[Any]:
    """Count the blocks that have trials and confirmations, by problem, method, phase and repetition."""
    key = (Trial.problem, Trial.method, Trial.phase, _repetition(size))
    where = (Trial.study_id == study, Trial.phase.in_(("explore", "confirm")))
    return select(*key, func.count(Trial.block.distinct())).where(*where).group_by(*key)


@built_once
def _confirmed(study: int, size: Size) -> Select[str, str, int]:
    """Count the finished confirmations whose trials are among the best of their repetition, by problem and method."""
    unit = Trial.block if size.winners_only else _repetition(size)
    ranked = _ranked(study, ("explore",), (Trial.problem, Trial.method, unit))
    if size.winners_only:
        among = (ranked.c.rank == 1) & (ranked.c.done >= (size.trials if size.budget is None else 1))
    else:
        ranks = {look * size.trials: size.confirmed(look) for look in size.looks}
        among = ranked.c.rank <= case(ranks, value=ranked.c.size, else_=0)
    return _children(study, "confirm", select(ranked.c.id).where(among, ranked.c.status == "done"))


@built_once
def _recommended(study: int, size: Size) -> Select[str, str, int]:
    """Count the finished runs of the winner of a complete search, by problem and method."""
    ranked = _ranked(study, SEARCHED, (Trial.problem, Trial.method))
    complete = (ranked.c.done == ranked.c.size, ranked.c.exploit >= size.exploit)
    return _children(study, "recommend", select(ranked.c.id).where(ranked.c.rank == 1, *complete))


def _children(study: int, phase: str, parents: Select[Any]) -> Select[str, str, int]:
    done = (Trial.study_id == study, Trial.status == "done", Trial.phase == phase, Trial.parent.in_(parents))
    return select(Trial.problem, Trial.method, func.count()).where(*done).group_by(Trial.problem, Trial.method)


def _ranked(study: int, phases: tuple[str, ...], group: tuple[Any, ...]) -> Any:
    """The trials of some phases with their rank in a group, the finished ones first, and the size of the group.

    Pruned trials rank last, and do not count.
    """
    done, exploit = case((Trial.status == "done", 1), else_=0), case((Trial.phase == "exploit", 1), else_=0)
    columns = (
        func.row_number().over(partition_by=group, order_by=(done.desc(), *ranking())).label("rank"),
        func.sum(case((Trial.status == "pruned", 0), else_=1)).over(partition_by=group).label("size"),
        func.sum(done).over(partition_by=group).label("done"),
        func.sum(exploit).over(partition_by=group).label("exploit"),
    )
    where = (Trial.study_id == study, Trial.phase.in_(phases))
    return select(Trial.id, Trial.status, *columns).where(*where).subquery()


def _repetition(size: Size) -> Any:
    return Trial.block // size.looks[-1]
