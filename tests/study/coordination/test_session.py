"""A worker's session, with trials that are a number: what is taken when, and what happens when things go wrong."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from sqlalchemy import Engine, select, update
from sqlalchemy.exc import OperationalError

from relaxbench.errors import UserError
from relaxbench.store import claims as claiming
from relaxbench.store.claims import Claims, worker_name
from relaxbench.store.database import open_database
from relaxbench.store.schema import Trial
from relaxbench.store.workers import arrive, workers
from relaxbench.stress.simulated import METHODS, PROBLEM, Load, make, outcome
from relaxbench.study.coordination import optuna_mirror as mirroring
from relaxbench.study.coordination import session as module
from relaxbench.study.coordination.plan import plans
from relaxbench.study.coordination.session import Session, Shift

LOAD = Load(looks=(2,), trials=3, exploit=10, recommend=2, hyperparameters=2)
BEST = 4  # of 2 × 3 random trials: the best of 3 has rank 4 in one draw of 20, and no lower one
TOTAL = len(METHODS) * (2 * 3 + BEST + 10 + 2)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(str(tmp_path / "study.db"))
    make(engine, "s", LOAD)
    yield engine
    engine.dispose()


@dataclass
class Slots:
    """A trainer: so many trials side by side, each done after a round; what was taken, in order."""

    count: int = 2
    during: Callable[[Shift, list[Trial]], None] = lambda shift, trials: None
    taken: list[Trial] = field(default_factory=list)
    shifts: list[tuple[str, str, bool]] = field(default_factory=list)

    def train(self, shift: Shift) -> None:
        self.shifts.append((shift.plan.problem, shift.plan.method, shift.alone))
        while trials := shift.feed(self.count):
            self.taken += trials
            self.during(shift, trials)
            lost = shift.lost()
            shift.report([outcome(trial, 1) for trial in trials if trial.id not in lost])
            if not shift.go_on():
                return


def session(database: Engine, trainer: Slots, name: str | None = None, **options: Any) -> Session:
    retries = options.pop("retries", 3)
    claims = Claims(database, 1, name or worker_name(), retries=retries)
    presence = arrive(database, 1, claims.worker, "cpu", {})
    return Session(claims, plans(database, 1), presence, trainer.train, **options)


def rows(database: Engine) -> list[Any]:
    with database.connect() as connection:
        return list(connection.execute(select(Trial.__table__).order_by(Trial.id)))


def states(database: Engine) -> Counter[str]:
    return Counter(row.status for row in rows(database))


def results(database: Engine) -> dict[Any, Any]:
    return {(r.method, r.phase, r.block, r.number): (r.seed, r.params, r.value, r.status) for r in rows(database)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """What an undisturbed session gives."""
    engine = open_database(str(tmp_path_factory.mktemp("whole") / "study.db"))
    make(engine, "s", LOAD)
    session(engine, Slots()).work()
    found = results(engine)
    engine.dispose()
    return found


# What is taken when.


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
    names = {s.study_name for s in optuna.get_all_study_summaries(mirroring.optuna_storage(database))}
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


# What goes wrong.


def test_a_trainer_that_raises_costs_its_own_trials_a_failure_and_nobody_else(database: Engine) -> None:
    def fail(shift: Shift, trials: list[Trial]) -> None:
        raise ValueError("singular\nand more lines")

    with pytest.raises(ValueError, match="singular"):
        session(database, trainer := Slots(3, fail)).work()
    touched = {trial.id for trial in trainer.taken}
    assert len(touched) == 3
    for row in rows(database):
        expected = ("waiting", 1, "ValueError: singular") if row.id in touched else ("waiting", 0, None)
        assert (row.status, row.failures, row.error) == expected
    (row,) = workers(database, 1)
    assert row.ended_at is not None and (row.running, row.finished) == (0, 0)
    session(database, Slots()).work()
    assert states(database) == {"done": TOTAL}


def test_a_trial_that_always_fails_is_at_last_tried_alone_and_given_up_and_all_else_is_done(database: Engine) -> None:
    bad = next(row.id for row in rows(database) if (row.method, row.phase, row.block) == ("sgd", "explore", 1))

    def fail(shift: Shift, trials: list[Trial]) -> None:
        if bad in {trial.id for trial in trials}:
            raise ValueError(f"with {len(trials)}")

    errors = []
    for _ in range(9):
        try:
            session(database, trainer := Slots(4, fail), retries=2).work()
            break
        except ValueError as error:
            errors.append(str(error))
    assert len(errors) == 3 and errors[-1] == "with 1"  # the last attempt has no company
    (given_up,) = [row for row in rows(database) if row.status == "failed"]
    assert (given_up.id, given_up.failures, given_up.error) == (bad, 3, "ValueError: with 1")
    # Without it nobody knows which trials are the best; everything else is complete.
    assert states(database) == {"done": TOTAL - 1 - BEST - LOAD.recommend, "failed": 1}
    assert not trainer.taken or bad not in {trial.id for trial in trainer.taken}
    mine = session(database, idle := Slots(4, fail), retries=2)
    mine.work()  # nothing is left to do, and nothing to wait for
    assert idle.taken == [] and workers(database, 1)[-1].ended_at is not None


@pytest.mark.parametrize("error", [UserError("does not fit"), KeyboardInterrupt()])
def test_what_is_no_fault_of_the_trials_costs_them_nothing(error: BaseException, database: Engine) -> None:
    def fail(shift: Shift, trials: list[Trial]) -> None:
        raise error

    with pytest.raises(type(error)):
        session(database, Slots(3, fail), retries=0).work()
    assert states(database).keys() == {"waiting"} and not any(row.failures for row in rows(database))
    assert workers(database, 1)[0].ended_at is not None


def test_a_stop_ends_the_round_and_gives_back_the_rest(database: Engine) -> None:
    stopping = threading.Event()

    def during(shift: Shift, trials: list[Trial]) -> None:
        if len(trainer.taken) >= 6:
            stopping.set()

    session(database, trainer := Slots(2, during), stopping=stopping.is_set).work()
    assert states(database) == {"done": 6, "waiting": len(rows(database)) - 6}
    assert workers(database, 1)[0].finished == 6


def test_lost_trials_are_told_once_and_their_results_do_not_count(database: Engine) -> None:
    other = Claims(database, 1, "other:1:1")

    def during(shift: Shift, trials: list[Trial]) -> None:
        if len(trainer.taken) == len(trials):  # the first time
            with database.begin() as connection:  # somebody frees it by hand, and takes it
                fenced = {"token": 9, "worker": other.worker}
                connection.execute(update(Trial).where(Trial.id == trials[0].id).values(**fenced))
            other.tokens[trials[0].id] = 9
            shift.session.claims.renew()
            told.append(shift.lost())
            told.append(shift.lost())
            assert shift.session.claims.finish([outcome(trials[0], 1)]) == 0
            other.release()

    told: list[set[int]] = []
    session(database, trainer := Slots(2, during)).work()
    assert told == [{trainer.taken[0].id}, set()]
    assert states(database) == {"done": TOTAL}
    assert [trial.id for trial in trainer.taken].count(trainer.taken[0].id) == 2


def test_the_heartbeat_keeps_trials_through_a_long_round(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round of many leases: no other worker gets the trials; without the heartbeat, it does."""
    monkeypatch.setattr(claiming, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.1)
    other = Claims(database, 1, "elsewhere:1:1")
    freed: list[int] = []
    seen: list[float] = []

    def during(shift: Shift, trials: list[Trial]) -> None:
        for _ in range(5):
            time.sleep(0.5)
            freed.append(other.reap())
            seen.append(max(row.silent for row in workers(database, 1)))
        stop.set()

    stop = threading.Event()
    session(database, Slots(2, during), "me:1:1", stopping=stop.is_set).work()
    assert freed == [0] * 5 and max(seen) < 1.0 and states(database)["done"] == 2
    stop.clear()
    freed.clear()
    monkeypatch.setattr(module, "RENEW_SECONDS", 100.0)
    mine = session(database, Slots(2, during), "me:1:1", stopping=stop.is_set)
    mine.work()
    assert sum(freed) == 2


def test_a_heartbeat_that_fails_says_so_and_goes_on(
    database: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.05)
    stop = threading.Event()
    mine = session(database, Slots(2, lambda shift, trials: time.sleep(0.4)), stopping=stop.is_set)
    beats: list[int] = []

    def renew() -> None:
        beats.append(1)
        if len(beats) == 1:
            raise RuntimeError("no")
        stop.set()

    monkeypatch.setattr(mine.claims, "renew", renew)
    mine.work()
    assert len(beats) > 1
    assert [record.message for record in caplog.records] == ["no sign of life could be stored: RuntimeError: no"]


def test_an_outage_at_the_end_is_not_waited_for_long(
    database: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Ctrl-C while the database is away: trials become free when their leases run out."""
    monkeypatch.setattr(claiming, "COURTESY_SECONDS", 0.1)

    def during(shift: Shift, trials: list[Trial]) -> None:
        monkeypatch.setattr(mine.claims, "engine", Away())
        raise KeyboardInterrupt

    class Away:
        url = database.url

        def begin(self) -> Any:
            raise OperationalError("BEGIN", None, Exception("away"), connection_invalidated=True)

    mine = session(database, Slots(2, during))
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        mine.work()
    assert time.monotonic() - begin < 10 and states(database)["running"] == 2
    assert "trials could not be given back, and are free when their leases have expired" in caplog.text


def test_optuna_gets_everything_after_an_outage_and_from_one_worker_at_a_time(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[int] = []
    add = mirroring.add

    def flaky(*arguments: Any) -> int:
        attempts.append(1)
        if len(attempts) <= 2:
            cause = OperationalError("", None, Exception("away"), connection_invalidated=True)
            raise cause if len(attempts) == 1 else optuna.exceptions.StorageInternalError("") from cause
        return add(*arguments)

    monkeypatch.setattr(mirroring, "add", flaky)
    session(database, Slots()).work()
    searched = [row for row in rows(database) if row.phase in ("explore", "exploit")]
    assert len(attempts) > 2 and all(row.mirrored for row in searched)
    storage = mirroring.optuna_storage(database)
    loaded = [t for s in storage.get_all_studies() for t in storage.get_all_trials(s._study_id)]
    assert sorted(t.user_attrs[mirroring.ID] for t in loaded) == [row.id for row in searched]

    def broken(*arguments: Any) -> int:
        raise optuna.exceptions.StorageInternalError("a bug")

    monkeypatch.setattr(mirroring, "add", broken)
    with pytest.raises(optuna.exceptions.StorageInternalError, match="a bug"):
        mirroring.mirror(plans(database, 1))
