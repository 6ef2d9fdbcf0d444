"""Plans with looks: who goes on, which rows there are in the end, and that it does not matter who asked, or when."""

from __future__ import annotations

import datetime as dt
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, delete, insert, select, update

from relaxbench.space import Float, to_stored
from relaxbench.store.database import open_database
from relaxbench.store.facts import MethodFacts, ProblemFacts, SpecFacts, method_facts, problem_facts
from relaxbench.store.schema import Study, Trial
from relaxbench.study.coordination.looks import Monitor
from relaxbench.study.coordination.plan import Plan, plans
from relaxbench.study.coordination.progress import tally
from relaxbench.util.seeds import derive
from tests.study import tiny

T = 2
Ratio = Callable[[str, int], float]
"""Method and repetition → how its metric compares with that of SGD."""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(str(tmp_path / "study.db"))
    yield engine
    engine.dispose()


def make(
    database: Engine, methods: dict[str, dict[str, Any]], looks: list[int], repetitions: int = 1, more_blocks: int = 0
) -> None:
    """A study of one problem, whose metric has the margin 10 %."""
    spec: SpecFacts = {
        **{"name": "s", "problems": ["p"], "methods": list(methods), "baseline": "sgd", "seed": 0, "looks": looks},
        **{"more_blocks": more_blocks, "trials": T, "exploit": 0, "recommend": 1, "repetitions": repetitions},
        **{"margin": None, "budgets": []},
    }  # type: ignore[typeddict-item]
    facts: dict[str, MethodFacts] = {
        label: {**method_facts({}, label), "space": to_stored({"x": Float(0.0, 1.0, 0.5)}), **changes}  # type: ignore[typeddict-item]
        for label, changes in methods.items()
    }
    about: ProblemFacts = {**problem_facts({}, "p"), "margin": "10 %", "worst_metric": 1e3}
    manifest = {"key": "k", "problems": {"p": about}, "methods": facts}
    with database.begin() as connection:
        values = {"name": "s", "spec": spec, "source": "", "manifest": manifest}
        connection.execute(delete(Trial))
        connection.execute(delete(Study))
        connection.execute(insert(Study).values(id=1, created_at=dt.datetime(2026, 1, 1), **values))


def finish(database: Engine, ids: list[int], ratio: Ratio, width: int) -> None:
    """Finish trials: their results depend on their seeds alone. `width` is the number of blocks of a repetition."""
    with database.begin() as connection:
        for row in connection.execute(select(Trial.__table__).where(Trial.id.in_(ids))).all():
            noise = np.random.default_rng(row.seed).normal(0.0, 0.5)
            metric = ratio(row.method, row.block // width) * math.exp(noise)
            done = {"status": "done", "value": noise + 2, "measures": {"test_metric": metric}}
            connection.execute(update(Trial).where(Trial.id == row.id).values(**done))


def waiting(database: Engine) -> list[int]:
    with database.connect() as connection:
        return list(connection.scalars(select(Trial.id).where(Trial.status == "waiting").order_by(Trial.id)))


def work(database: Engine, ratio: Ratio, width: int) -> list[Plan]:
    """Finish everything that becomes possible."""
    planned = plans(database, 1)
    for plan in planned:
        plan.begin()
    while True:
        finish(database, waiting(database), ratio, width)
        if not sum(plan.unlock() for plan in planned):
            return planned


def rows(database: Engine) -> list[Any]:
    with database.connect() as connection:
        return list(connection.execute(select(Trial.__table__).order_by(Trial.id)).all())


def blocks_of(database: Engine, method: str, phase: str = "explore") -> list[int]:
    return sorted({row.block for row in rows(database) if (row.method, row.phase) == (method, phase)})


def equal(method: str, repetition: int) -> float:
    return 1.0


def mixed(method: str, repetition: int) -> float:
    """One method is far better, one is worse by a little, which few blocks do not tell."""
    return {"sgd": 1.0, "better": 0.05, "open": 1.05, "published": 30.0}[method]


def test_only_what_is_undecided_goes_on_and_the_baseline_with_it(database: Engine) -> None:
    make(database, {"sgd": {}, "better": {}, "open": {}}, [6, 9, 12])
    planned = work(database, mixed, 12)
    assert blocks_of(database, "better") == list(range(6))
    assert blocks_of(database, "open") == blocks_of(database, "sgd") == list(range(12))
    assert [(plan.unlock(), plan._reached) for plan in plans(database, 1)] == [(0, {0: 2}), (0, {0: 0}), (0, {0: 2})]
    counts = {p.method: (p.look, p.looks, p.blocks, p.done, p.total) for p in tally(planned)}
    assert counts["better"] == (1, 3, 6, 6 * T + tiny.best(6, T) + 1, 6 * T + tiny.best(6, T) + 1)
    assert counts["open"] == (3, 3, 12, 12 * T + tiny.best(12, T) + 1, 12 * T + tiny.best(12, T) + 1)


def test_a_study_whose_comparisons_are_decided_ends_with_the_first_look(database: Engine) -> None:
    make(database, {"sgd": {}, "better": {}}, [6, 9, 12])
    work(database, mixed, 12)
    assert blocks_of(database, "sgd") == blocks_of(database, "better") == list(range(6))
    assert {row.status for row in rows(database)} == {"done"}


def test_the_best_of_every_look_are_confirmed_with_their_settings_on_seeds_of_their_own(database: Engine) -> None:
    make(database, {"sgd": {}, "open": {}}, [6, 9])
    work(database, equal, 9)
    for method in ("sgd", "open"):
        mine = {row.id: row for row in rows(database) if row.method == method}
        explored = [row for row in mine.values() if row.phase == "explore"]
        expected: set[int] = set()
        for look in (6, 9):  # confirmations of the first look are kept
            ranked = sorted((r for r in explored if r.block < look), key=lambda r: (r.value, r.block, r.number))
            expected |= {row.id for row in ranked[: tiny.best(look, T)]}
        confirmed = [row for row in mine.values() if row.phase == "confirm"]
        assert {row.parent for row in confirmed} == expected and len(confirmed) == len(expected)
        for row in confirmed:
            parent = mine[row.parent]
            assert (row.block, row.number, row.params) == (parent.block, parent.number, parent.params)
            assert row.seed == derive(0, "confirm", "p", method, row.block, row.number)
    assert len({row.seed for row in rows(database) if row.phase != "recommend"}) == sum(
        row.phase != "recommend" for row in rows(database)
    )


@pytest.mark.parametrize("order", range(4))
def test_the_rows_do_not_depend_on_who_finishes_what_and_who_asks(order: int, database: Engine) -> None:
    """Three workers that have seen different things, and one that has just arrived, in any order."""
    methods: dict[str, dict[str, Any]] = {"sgd": {}, "better": {}, "open": {}, "published": {"arm": "published"}}
    make(database, methods, [6, 8, 10])
    work(database, mixed, 10)
    key = ("method", "phase", "block", "number", "seed", "value", "status")
    whole = sorted(tuple(getattr(row, name) for name in key) for row in rows(database))
    make(database, methods, [6, 8, 10])
    draw = random.Random(order)
    workers = [plans(database, 1) for _ in range(3)]
    for plan in draw.sample(workers[0], 4):
        plan.begin()
    while True:
        ids = waiting(database)
        finish(database, draw.sample(ids, min(len(ids), draw.choice([1, 10, 40]))), mixed, 10)
        asked = [plan for planned in (*workers, plans(database, 1)) for plan in planned]
        new = sum(plan.unlock() for plan in draw.sample(asked, draw.choice([1, 3, len(asked)])))
        if not new and not waiting(database) and not sum(plan.unlock() for plan in asked):
            break
    assert sorted(tuple(getattr(row, name) for name in key) for row in rows(database)) == whole


def test_the_baseline_waits_until_a_method_is_known_to_go_on(database: Engine) -> None:
    make(database, {"sgd": {}, "better": {}, "open": {}}, [6, 9])
    planned = {plan.method: plan for plan in plans(database, 1)}
    for plan in planned.values():
        plan.begin()

    def complete(method: str) -> int:
        """Finish a method's look, and ask everybody; returns the number of new rows of other methods."""
        for _ in range(2):
            mine = [row.id for row in rows(database) if row.method == method and row.status == "waiting"]
            finish(database, mine, mixed, 9)
            planned[method].unlock()
        return sum(plan.unlock() for plan in planned.values() if plan.method != method)

    assert complete("sgd") == 0
    assert complete("better") == 0  # decided; whether the baseline has an end is open
    assert blocks_of(database, "better") == list(range(6)) and blocks_of(database, "better", "recommend") == [0]
    assert blocks_of(database, "sgd", "recommend") == []
    assert complete("open") == 3 * T and blocks_of(database, "sgd") == list(range(9))
    assert blocks_of(database, "open") == list(range(9))


def test_every_repetition_goes_through_its_looks_alone(database: Engine) -> None:
    make(database, {"sgd": {}, "a": {}}, [6, 9], repetitions=3)

    def ratio(method: str, repetition: int) -> float:
        return 0.02 if (method, repetition) == ("a", 1) else 1.0

    planned = work(database, ratio, 9)
    taken = [*range(9), *range(9, 15), *range(18, 27)]
    assert blocks_of(database, "sgd") == blocks_of(database, "a") == taken
    confirmed = 2 * tiny.best(9, T) + tiny.best(6, T)
    for progress in tally(planned):
        assert progress.planned == {"explore": 24 * T, "confirm": confirmed, "exploit": 0, "recommend": 1}
        assert progress.done == progress.total and (progress.look, progress.blocks) == (2, 9)


def test_a_method_as_published_has_one_run_per_block_and_is_not_searched(database: Engine) -> None:
    fixed = {"x": 0.25}
    make(database, {"sgd": {}, "published": {"arm": "published", "space": {}, "fixed": fixed}}, [6, 9])
    planned = work(database, equal, 9)
    mine = [row for row in rows(database) if row.method == "published"]
    assert [(row.phase, row.block, row.number, row.parent) for row in mine] == [("confirm", b, 0, 0) for b in range(9)]
    assert {row.params["x"] for row in mine} == {0.25} and len({row.seed for row in mine}) == 9
    assert mine[4].seed == derive(0, "confirm", "p", "published", 4, 0)
    (_, progress) = tally(planned)
    assert (progress.done, progress.total, progress.planned["confirm"], progress.blocks) == (9, 9, 9, 9)
    assert planned[1].winner_of_complete_search() is None


def test_further_blocks_are_run_by_request_and_only_of_what_is_undecided(database: Engine) -> None:
    methods: dict[str, dict[str, Any]] = {"sgd": {}, "better": {}, "open": {}}
    make(database, methods, [6, 8])
    work(database, mixed, 8)
    with database.begin() as connection:
        (spec,) = connection.scalars(select(Study.spec))
        connection.execute(update(Study).values(spec={**spec, "more_blocks": 3}))
    planned = work(database, mixed, 11)
    assert blocks_of(database, "open") == blocks_of(database, "sgd") == list(range(11))
    assert blocks_of(database, "better") == list(range(6))
    assert [(p.look, p.looks, p.blocks) for p in tally(planned)] == [(3, 2, 11), (1, 2, 6), (3, 2, 11)]
    with database.begin() as connection:  # and again: the look at 11 blocks was taken, and counts
        (manifest,) = connection.scalars(select(Study.manifest))
        grown = {"spec": {**spec, "more_blocks": 5}, "manifest": {**manifest, "extra_looks": [11]}}
        connection.execute(update(Study).values(**grown))
    planned = work(database, mixed, 13)
    assert blocks_of(database, "open") == blocks_of(database, "sgd") == list(range(13))
    assert [(p.look, p.looks, p.blocks) for p in tally(planned)] == [(4, 2, 13), (1, 2, 6), (4, 2, 13)]


def test_a_study_of_the_baseline_alone_ends_with_its_first_look(database: Engine) -> None:
    make(database, {"sgd": {}}, [6, 9])
    work(database, equal, 9)
    assert blocks_of(database, "sgd") == list(range(6)) and blocks_of(database, "sgd", "recommend") == [0]


def test_no_look_helps_where_the_metric_has_no_logarithm(database: Engine) -> None:
    make(database, {"sgd": {}, "a": {}}, [6, 9])
    work(database, lambda method, repetition: -1.0, 9)
    assert blocks_of(database, "sgd") == blocks_of(database, "a") == list(range(6))


def test_the_baseline_ends_although_a_method_stopped_without_a_claim(database: Engine) -> None:
    make(database, {"sgd": {}, "none": {}, "late": {}}, [6, 15, 30])
    work(database, lambda method, repetition: {"sgd": 1.0, "none": -1.0, "late": 1.5}[method], 30)
    assert blocks_of(database, "none") == list(range(6))
    assert blocks_of(database, "late") == blocks_of(database, "sgd") == list(range(15))
    assert blocks_of(database, "sgd", "recommend") == [0]


def test_a_method_is_judged_when_it_and_the_baseline_are_complete(database: Engine) -> None:
    make(database, {"sgd": {}, "a": {}}, [6, 9])
    with database.connect() as connection:
        row = connection.execute(select(Study.spec, Study.manifest)).one()
    monitor = Monitor.of(database, 1, "p", row.spec, row.manifest)
    sgd, other = plans(database, 1)
    for plan in (sgd, other):
        plan.begin()
        assert monitor.goes_on("a", 0, 0) is None and monitor.goes_on("sgd", 0, 0) is None
        for _ in range(2):
            finish(database, [r.id for r in rows(database) if r.method == plan.method], equal, 9)
            plan.unlock()
    assert monitor.goes_on("a", 0, 0) is True and monitor.goes_on("sgd", 0, 0) is True
    with database.begin() as connection:  # a run without a metric counts as the worst
        connection.execute(update(Trial).where(Trial.method == "a").values(measures={"test_metric": None}))
    assert monitor.goes_on("a", 0, 0) is False and monitor.goes_on("sgd", 0, 0) is False
