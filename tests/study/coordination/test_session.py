"""A worker's session, with trials that are a number: what is taken when, and what several workers share."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from sqlalchemy import Engine, select

from relaxbench.store import claims as claiming
from relaxbench.store.claims import Claims
from relaxbench.store.database import open_database
from relaxbench.store.schema import Trial
from relaxbench.store.workers import workers
from relaxbench.stress import simulated as stress
from relaxbench.stress.simulated import METHODS, PROBLEM, make, outcome
from relaxbench.study.coordination import optuna_mirror as mirroring
from relaxbench.study.coordination import session as module
from relaxbench.study.coordination.plan import plans
from relaxbench.study.coordination.session import Shift
from tests.study.coordination.sessions import LOAD, TOTAL, Slots, results, rows, session, simulated, states


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    yield from simulated(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """What an undisturbed session gives."""
    undisturbed = dict[Any, Any]()
    for engine in simulated(tmp_path_factory.mktemp("whole")):
        session(engine, Slots()).work()
        undisturbed.update(results(engine))
    return undisturbed


@pytest.mark.parametrize("slots", [1, 2, 5, 100])
def test_a_session_does_everything_once_whatever_its_slots(slots: int, database: Engine, whole: dict[Any, Any]) -> None:
    trainer, seen = Slots(slots), list[int]()
    mine = session(database, trainer, observe=lambda: seen.append(1))
    mine.work()
    assert len(trainer.taken) == len({trial.id for trial in trainer.taken}) == TOTAL
    assert results(database) == whole and states(database) == {"done": TOTAL}
    assert mine.presence.finished == TOTAL and seen
    (row,) = workers(database, 1)
    assert (row.finished, row.running, row.doing) == (TOTAL, 0, "") and row.ended_at is not None
    with database.connect() as connection:
        assert all(connection.scalars(select(Trial.mirrored).where(Trial.phase.in_(["explore", "exploit"]))))
    with mirroring.open_optuna(database) as storage:
        names = {s.study_name for s in optuna.get_all_study_summaries(storage)}
    assert names == {f"s/{PROBLEM}/{method}/{phase}" for method in METHODS for phase in ("explore", "exploit")}


def test_generations_of_tpe_begin_with_the_first_trials_and_overlap_with_them(database: Engine) -> None:
    """The longest chain of trials that wait for each other begins at once; the best are confirmed when known."""
    trainer = Slots(5)
    session(database, trainer).work()
    first = [t for t in trainer.taken if t.method == trainer.taken[0].method]
    phases = [t.phase for t in first]
    assert phases[:5] == ["exploit"] * 4 + ["explore"]  # the first generation needs nothing
    last = {phase: len(phases) - 1 - phases[::-1].index(phase) for phase in set(phases)}
    assert phases.index("explore") < last["exploit"]  # while a generation is incomplete, slots take random trials
    assert phases.index("confirm") > last["explore"]
    assert phases.index("recommend") > max(last["explore"], last["exploit"])
    for generation in (1, 2):  # each waits for the one before
        begin = min(i for i, t in enumerate(first) if t.phase == "exploit" and t.block == generation)
        assert {t.number for t in first[:begin] if t.phase == "exploit" and t.block == generation - 1} == {0, 1, 2, 3}


def test_two_workers_take_different_plans_then_share_the_last(database: Engine, whole: dict[Any, Any]) -> None:
    together = threading.Barrier(2, timeout=30)
    trainers = [Slots(), Slots()]
    for trainer in trainers:  # each takes its first trials before the other one goes on

        def during(shift: Shift, trials: list[Trial], trainer: Slots = trainer) -> None:
            if len(trainer.taken) == len(trials):
                together.wait()

        trainer.during = during
    engines = [open_database(str(database.url.database)) for _ in trainers]
    both = [session(e, t, f"elsewhere-{i}:1:1") for i, (e, t) in enumerate(zip(engines, trainers, strict=True))]
    threads = [threading.Thread(target=each.work) for each in both]
    threads[0].start()
    while not trainers[0].taken:
        time.sleep(0.01)
    threads[1].start()
    for thread in threads:
        thread.join(60)
    for engine in engines:
        engine.dispose()
    assert {trainer.taken[0].method for trainer in trainers} == set(METHODS)
    assert sum(len(trainer.taken) for trainer in trainers) == TOTAL and results(database) == whole
    assert sum(each.presence.finished for each in both) == TOTAL


def test_workers_share_the_last_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stress, "METHODS", ("sgd",))
    database = open_database(str(tmp_path / "study.db"))
    make(database, "s", replace(LOAD, exploit=0))  # six trials wait
    monkeypatch.setattr(module, "COUNTED_SECONDS", 0.0)
    both = [session(database, Slots(), f"elsewhere-{i}:1:1") for i in range(2)]
    shifts = [Shift(each, each.plans[0], False, 0) for each in both]
    mine = shifts[0].feed(100)
    assert len(mine) == 3 and shifts[0].feed(97) == []
    shifts[0].report([outcome(trial, 1) for trial in mine[:1]])
    assert len(shifts[0].feed(98)) == 1  # of five that are left, each has at most three
    assert len(shifts[1].feed(1)) == 1 and shifts[0].feed(97) == []
    both[1].presence.leave()
    assert len(shifts[0].feed(97)) == 1
    database.dispose()


def test_two_workers_take_all_looks_as_one_does(tmp_path: Path) -> None:
    """Few blocks decide nothing, so both methods go on; each worker ends with what the other makes possible."""
    load = replace(LOAD, looks=(2, 3, 5), exploit=0, recommend=1)
    found = []
    for counts in ((2,), (1, 5)):
        file = str(tmp_path / f"{len(counts)}.db")
        engines = [open_database(file) for _ in counts]
        make(engines[0], "s", load)
        named = zip(engines, map(Slots, counts), strict=True)
        sessions = [session(e, trainer, f"elsewhere-{i}:1:1") for i, (e, trainer) in enumerate(named)]
        threads = [threading.Thread(target=each.work) for each in sessions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert states(engines[0]).keys() == {"done"}
        assert sum(each.presence.finished for each in sessions) == len(rows(engines[0]))
        found.append(results(engines[0]))
        for engine in engines:
            engine.dispose()
    assert found[0] == found[1] and {key[2] for key in found[0] if key[1] == "explore"} == set(range(5))


def test_every_method_has_its_first_look_before_any_has_its_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the last method of a long study has no answer until all others have their last one."""
    monkeypatch.setattr(stress, "METHODS", methods := ("sgd", "first", "second", "third"))
    database, trainer = open_database(str(tmp_path / "study.db")), Slots(5)
    make(database, "s", replace(LOAD, looks=(2, 3, 5), exploit=0, recommend=1))
    session(database, trainer).work()
    looks = [
        0 if trial.block < 2 else 1 if trial.block < 3 else 2 for trial in trainer.taken if trial.phase == "explore"
    ]
    assert looks == sorted(looks) and set(looks) == {0, 1, 2}
    begun = [trial.method for trial in trainer.taken if trial.block >= 2]
    assert set(begun) == set(methods)  # few blocks decide nothing, so all go on
    confirmed = {trial.method for trial in trainer.taken[: len(trainer.taken) - len(begun)] if trial.phase == "confirm"}
    assert confirmed == set(methods)
    database.dispose()


def test_a_worker_waits_for_others_and_stays_while_their_trials_may_make_more_possible(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is ready is in another's hands; when it has finished, and told nobody, there is work again."""
    other = Claims(database, 1, "elsewhere:1:1")
    held = [t for m in METHODS for t in other.take(PROBLEM, m, 100)]
    mine = session(database, trainer := Slots())
    pauses: list[str] = []

    def sleep(seconds: float) -> None:
        pauses.append(mine.presence.doing)
        if len(pauses) == 3:
            other.finish([outcome(trial, 1) for trial in held])

    monkeypatch.setattr(module.time, "sleep", sleep)
    mine.work()
    assert pauses == ["waiting for others"] * 3 and len(held) + len(trainer.taken) == TOTAL
    assert states(database) == {"done": TOTAL}


def test_a_worker_does_not_leave_because_others_finish_between_its_looks(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it saw running is done a moment later, and what that made possible is not there yet."""
    other = Claims(database, 1, "elsewhere:1:1")
    held = [t for m in METHODS for t in other.take(PROBLEM, m, 100)]
    mine = session(database, trainer := Slots())
    looks, look = [0], mine.claims.open

    def between() -> Any:
        looks[0] += 1
        if looks[0] == 2:  # after the first look, and after asking what is possible
            other.finish([outcome(trial, 1) for trial in held])
        return look()

    monkeypatch.setattr(mine.claims, "open", between)
    mine.work()
    assert len(held) + len(trainer.taken) == TOTAL and states(database) == {"done": TOTAL}


def test_a_part_of_a_study_does_not_wait_for_the_rest(database: Engine) -> None:
    Claims(database, 1, "elsewhere:1:1").take(PROBLEM, "relaxed", 3)
    mine = session(database, trainer := Slots())
    mine.plans = plans(database, 1, methods=["sgd"])
    mine.work()
    assert {trial.method for trial in trainer.taken} == {"sgd"} and len(trainer.taken) == TOTAL / 2


def test_trials_of_the_dead_are_taken_over(database: Engine, whole: dict[Any, Any]) -> None:
    from tests.study.coordination.test_manifest import DEAD

    lost = Claims(database, 1, DEAD).take(PROBLEM, "sgd", 4)
    session(database, Slots()).work()
    assert results(database) == whole
    again = [row for row in rows(database) if row.failures]
    assert [row.id for row in again] == [trial.id for trial in lost]
    assert {(row.failures, row.token, row.error) for row in again} == {(1, 2, claiming.DIED)}
