"""Plans of blocks that begin with known settings: the rest of a block is what it would be without them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine

from relaxbench.analysis.frames import load_study
from relaxbench.analysis.study_arms import StudyArms
from relaxbench.space import Choice, Float, Int, Space, Value
from relaxbench.store.database import open_database
from relaxbench.store.facts import SearchFacts
from relaxbench.study.coordination.samplers import make_sampler
from relaxbench.study.coordination.tuner import Finished, Tuner
from tests.study.coordination.test_learned_plan import TPE
from tests.study.coordination.test_plan import T, equal, make, rows, work

KNOWN: dict[str, Any] = {"known": [{"params": {"x": 0.125}, "origin": "before"}]}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(str(tmp_path / "study.db"))
    yield engine
    engine.dispose()


def explored(database: Engine, method: str = "a") -> dict[tuple[int, int], tuple[int, Any]]:
    mine = [row for row in rows(database) if (row.method, row.phase) == (method, "explore")]
    return {(row.block, row.number): (row.seed, row.params["x"]) for row in mine}


def test_known_settings_replace_the_first_random_trials_and_nothing_else(database: Engine) -> None:
    make(database, {"sgd": {}, "a": {}}, [6])
    work(database, equal, 6)
    plain, other = explored(database), explored(database, "sgd")
    make(database, {"sgd": {}, "a": KNOWN}, [6])
    work(database, equal, 6)
    told = explored(database)
    assert told.keys() == plain.keys() and len(told) == 6 * T and explored(database, "sgd") == other
    for place, (seed, x) in plain.items():
        assert told[place] == ((seed, 0.125) if place[1] == 0 else (seed, x))


def test_winners_alone_are_confirmed_and_the_estimate_is_their_mean(database: Engine) -> None:
    make(database, {"sgd": {}, "a": KNOWN}, [6])
    planned = work(database, equal, 6)
    mine = [row for row in rows(database) if row.method == "a"]
    winners = [min((r for r in mine if r.phase == "explore" and r.block == b), key=lambda r: r.value) for b in range(6)]
    confirmed = {row.block: row for row in mine if row.phase == "confirm"}
    assert [confirmed[b].parent for b in range(6)] == [winner.id for winner in winners]
    assert sum(row.phase == "confirm" for row in mine) == 6
    logs = np.array([math.log(confirmed[b].measures["test_metric"]) for b in range(6)])
    assert planned[1].monitor is not None
    of_plan = planned[1].monitor.arms(0)["a"][0]
    of_report = StudyArms(load_study(database, "s")).arms("p", "a")[0]
    assert of_plan is not None and of_report is not None and of_plan.estimate == of_report.estimate
    assert float(of_report.estimate) == pytest.approx(logs.mean(), abs=0.2)  # but for the limit of disasters
    assert (of_report.blocks, of_report.runs) == (6, 6)


def test_a_sampler_that_learns_begins_every_block_with_them(database: Engine) -> None:
    make(database, {"sgd": {}, "a": {**KNOWN, **TPE}}, [6])
    work(database, equal, 6)
    told = explored(database)
    assert [told[block, 0][1] for block in range(6)] == [0.125] * 6
    assert len({told[block, 1][1] for block in range(6)}) == 6


@pytest.mark.parametrize("name", ["tpe", "gp", "qmc"])
def test_samplers_try_known_settings_first_whatever_the_generations(name: str) -> None:
    space: Space = {"x": Float(1e-3, 1.0, 0.1, log=True), "n": Int(1, 9, 3), "kind": Choice(("a", "b"), "a")}
    known: list[dict[str, Value]] = [{"x": 0.3, "n": 4, "kind": "b"}, {"x": 1.0, "n": 9, "kind": "a"}]

    def run(fresh: bool, size: int) -> list[dict[str, Value]]:
        facts: SearchFacts = {"sampler": name, "options": {}, "generation": size}
        generations: list[list[Finished]] = []
        for _ in range(4 // size):
            if fresh or not generations:
                tuner = Tuner(space, make_sampler(facts, 7, 6), known)
            proposed = tuner.propose(generations, size)
            generations.append([Finished(params, float(params["x"])) for params in proposed])
        return [dict(each.params) for generation in generations for each in generation]

    for size in (1, 4):
        trials = run(False, size)
        assert trials[:2] == known and run(True, size) == trials
        assert all(params not in known for params in trials[2:])
