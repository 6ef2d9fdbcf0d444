"""Plans whose trials a sampler chooses: generation by generation, the same rows whoever asks."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine

from relaxbench.analysis.frames import load_study
from relaxbench.analysis.study_arms import StudyArms
from relaxbench.space import Float
from relaxbench.store.database import open_database
from relaxbench.store.facts import SearchFacts
from relaxbench.study.coordination.learned_search import LearnedSearch
from relaxbench.study.coordination.plan import Plan, plans
from relaxbench.study.coordination.progress import tally
from tests.study.coordination import test_plan
from tests.study.coordination.test_plan import T, blocks_of, equal, finish, make, rows, waiting, work

TPE: dict[str, Any] = {"search": {"sampler": "tpe", "options": {"n_startup_trials": 1}, "generation": 1}}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(str(tmp_path / "study.db"))
    yield engine
    engine.dispose()


def places(database: Engine, method: str, phase: str) -> list[tuple[int, int]]:
    return sorted((r.block, r.number) for r in rows(database) if (r.method, r.phase) == (method, phase))


def test_a_generation_waits_for_the_earlier_ones_of_its_block_alone(database: Engine) -> None:
    make(database, {"sgd": {}, "a": TPE}, [6])
    plan = plans(database, 1)[1]
    plan.begin()
    assert places(database, "a", "explore") == [(block, 0) for block in range(6)]
    finish(database, [row.id for row in rows(database) if row.block in (2, 4)], equal, 6)
    assert plan.unlock() == 2 and plan.unlock() == 0
    assert [place for place in places(database, "a", "explore") if place[1]] == [(2, 1), (4, 1)]


@pytest.mark.parametrize("order", range(2))
def test_the_rows_do_not_depend_on_who_finishes_what_and_who_asks(order: int, database: Engine) -> None:
    methods: dict[str, dict[str, Any]] = {"sgd": TPE, "a": TPE}
    make(database, methods, [6, 7])
    work(database, equal, 7)
    key = ("method", "phase", "block", "number", "seed", "value", "status")
    whole = [(*(getattr(r, name) for name in key), r.params["x"]) for r in rows(database)]
    make(database, methods, [6, 7])
    draw = random.Random(order)
    workers = [plans(database, 1) for _ in range(2)]
    while True:
        ids = waiting(database)
        finish(database, draw.sample(ids, min(len(ids), draw.choice([1, 10]))), equal, 7)
        asked: list[Plan] = [plan for planned in (*workers, plans(database, 1)) for plan in planned]
        new = sum(plan.unlock() for plan in draw.sample(asked, draw.choice([1, 3])))
        if not new and not waiting(database) and not sum(plan.unlock() for plan in asked):
            break
    again = [(*(getattr(r, name) for name in key), r.params["x"]) for r in rows(database)]
    assert sorted(again) == sorted(whole)
    firsts = [row.params["x"] for row in rows(database) if row.phase == "explore" and row.number == 0]
    assert len(set(firsts)) == len(firsts) == 14  # blocks have seeds of their own


def test_winners_alone_are_confirmed_and_the_estimate_is_their_mean(database: Engine) -> None:
    make(database, {"sgd": {}, "a": TPE}, [6, 8])
    planned = work(database, lambda method, repetition: 1.0, 8)
    assert blocks_of(database, "a") == list(range(8))
    mine = [row for row in rows(database) if row.method == "a"]
    winners = [min((r for r in mine if r.phase == "explore" and r.block == b), key=lambda r: r.value) for b in range(8)]
    confirmed = {row.block: row for row in mine if row.phase == "confirm"}
    assert [confirmed[b].parent for b in range(8)] == [winner.id for winner in winners]
    assert sum(row.phase == "confirm" for row in mine) == 8
    (_, progress) = tally(planned)
    assert progress.planned == {"explore": 8 * T, "confirm": 8, "exploit": 0, "recommend": 1}
    assert progress.done == progress.total

    logs = np.array([math.log(confirmed[b].measures["test_metric"]) for b in range(6)])
    assert planned[1].monitor is not None
    of_plan = planned[1].monitor.arms(0)["a"][0]
    of_report = StudyArms(load_study(database, "s")).arms("p", "a")[0]
    for arm in (of_plan, of_report):
        assert arm is not None and (arm.blocks, arm.runs) == (6, 6)
        assert float(arm.estimate) == pytest.approx(logs.mean(), abs=0.2)  # but for the limit of disasters
    assert of_plan is not None and of_report is not None and of_plan.estimate == of_report.estimate


def test_progress_counts_the_blocks_that_have_begun(database: Engine) -> None:
    """With whole blocks alone, a study at its second look would seem finished while it has only begun."""
    make(database, {"sgd": TPE, "a": TPE}, [6, 12])
    planned = plans(database, 1)
    while blocks_of(database, "a") != list(range(12)):
        finish(database, waiting(database), test_plan.equal, 12)
        for plan in planned:
            plan.unlock()
    finish(database, waiting(database), test_plan.equal, 12)
    assert [(p.blocks, p.total) for p in tally(planned)] == [(12, 12 * T + 12 + 1)] * 2


def test_a_generation_is_chosen_when_the_one_before_it_is_whole() -> None:
    """Also by a worker that has just arrived, and knows only what is finished."""
    facts: SearchFacts = {"sampler": "tpe", "options": {}, "generation": 2}
    results: list[Any] = [SimpleNamespace(params={"x": 0.1 * place}, value=float(place)) for place in range(5)]

    def numbers(done: int) -> list[int]:
        search = LearnedSearch(facts, {"x": Float(0.0, 1.0, 0.5)}, (0, "p", "a"), 5)
        return [number for number, _ in search.following(3, done, lambda: results[:done])]

    assert [numbers(done) for done in range(6)] == [[0, 1], [], [2, 3], [], [4], []]
