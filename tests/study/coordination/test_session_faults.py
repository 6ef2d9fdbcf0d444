"""A worker's session when things go wrong: trials that fail, stops, lost claims, heartbeats and outages."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from sqlalchemy import Engine, update
from sqlalchemy.exc import OperationalError

from relaxbench.errors import UserError
from relaxbench.store import claims as claiming
from relaxbench.store.claims import Claims
from relaxbench.store.schema import Trial
from relaxbench.store.workers import workers
from relaxbench.stress.simulated import outcome
from relaxbench.study.coordination import optuna_mirror as mirroring
from relaxbench.study.coordination import session as module
from relaxbench.study.coordination.plan import plans
from relaxbench.study.coordination.session import Shift
from tests.study.coordination.sessions import BEST, LOAD, TOTAL, Slots, rows, session, simulated, states


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    yield from simulated(tmp_path)


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
    with mirroring.open_optuna(database) as storage:
        loaded = [t for s in storage.get_all_studies() for t in storage.get_all_trials(s._study_id)]
    assert sorted(t.user_attrs[mirroring.ID] for t in loaded) == [row.id for row in searched]

    def broken(*arguments: Any) -> int:
        raise optuna.exceptions.StorageInternalError("a bug")

    monkeypatch.setattr(mirroring, "add", broken)
    with pytest.raises(optuna.exceptions.StorageInternalError, match="a bug"):
        mirroring.mirror(plans(database, 1))
