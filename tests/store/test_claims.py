"""Claims: a trial has one worker at a time, and a result counts only with the latest token."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Connection, Engine, event, insert, select, update

from relaxbench.store import claims as module
from relaxbench.store.claims import DIED, LEASE_SECONDS, Claims, Result, worker_name
from relaxbench.store.database import open_database
from relaxbench.store.schema import Curve, Trial, Weights
from relaxbench.store.transactions import write


def result(trial: Trial, token: int | None = None, value: float = 0.5, weights: bytes | None = None) -> Result:
    token = trial.token if token is None else token
    return Result(trial.id, token, value, False, {"train_loss": 1.0}, {"gradients": 7}, b"curve", b"right", weights)


def row(database: Engine, trial: int) -> Trial:
    with database.connect() as connection:
        found = connection.execute(select(Trial.__table__).where(Trial.id == trial)).one()
    return Trial(**found._mapping)


def states(database: Engine) -> list[str]:
    with database.connect() as connection:
        return list(connection.scalars(select(Trial.status).order_by(Trial.id)))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test can turn: its only entry is the time."""
    now = [time.time()]
    monkeypatch.setattr(module, "now", lambda connection: now[0])
    return now


# Taking.


def test_a_claim_takes_the_oldest_waiting_trials_of_its_method_confirmations_first(database: Engine) -> None:
    mine = Claims(database, 1, "me")
    taken = mine.take("digits-mlp", "sgd", 6)
    assert [trial.number for trial in taken] == [1, 4, 7, 10, 0, 3]
    assert all(t.status == "running" and t.worker == "me" and t.token == 1 for t in taken)
    assert all(t.lease_until is not None and abs(t.lease_until - time.time() - LEASE_SECONDS) < 30 for t in taken)
    assert taken[4].seed == 2**62 and taken[4].params == {"lr": 0.1}
    assert [trial.number for trial in mine.take("digits-mlp", "sgd", 9)] == [6, 9]
    assert [trial.number for trial in mine.take("digits-mlp", "heat", 2)] == [2, 5]
    assert mine.take("digits-mlp", "sgd", 9) == []
    assert mine.take("rosenbrock", "sgd", 9) == [] and Claims(database, 2).take("digits-mlp", "sgd", 9) == []
    assert mine.take("digits-mlp", "heat", 0) == mine.take("digits-mlp", "heat", -1) == []
    assert mine.tokens == dict.fromkeys((1, 2, 4, 5, 7, 8, 10, 11, 3, 6), 1)
    assert mine.count(Trial.status == "running") == 10 and mine.count() == 12
    assert mine.open() == {("digits-mlp", "sgd"): {"running": 8}, ("digits-mlp", "heat"): {"running": 2, "waiting": 2}}


def test_threads_never_get_the_same_trial(database: Engine, file: Path) -> None:
    taken: list[int] = []
    errors: list[BaseException] = []

    def work(name: str) -> None:
        try:
            engine = open_database(str(file))
            claims = Claims(engine, 1, name)
            while got := claims.take("digits-mlp", "sgd", 1):
                taken.extend(trial.id for trial in got)
            engine.dispose()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and sorted(taken) == [1, 2, 4, 5, 7, 8, 10, 11]


WORKER = """
import sys, time
from relaxbench.store.claims import Claims, Result
from relaxbench.store.database import open_database
claims = Claims(open_database(sys.argv[1], create=False), 1)
print("ready", flush=True)
sys.stdin.readline()
while got := claims.take("digits-mlp", sys.argv[2], 2):
    print(*(trial.id for trial in got), flush=True)
    if sys.argv[3] == "hang":
        time.sleep(60)
    claims.finish([Result(t.id, t.token, 0.5, False, {}, {}, b"c") for t in got])
"""


def worker(file: Path, method: str, then: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(file), method, then]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_processes_never_get_the_same_trial(file: Path) -> None:
    from tests.store.conftest import add_study

    engine = open_database(str(file))
    add_study(engine, 120)
    workers = [worker(file, "sgd", "finish") for _ in range(3)]
    for process in workers:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    outputs = [""] * 3

    def communicate(i: int) -> None:
        outputs[i] = workers[i].communicate("go\n", timeout=60)[0]

    threads = [threading.Thread(target=communicate, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.returncode for process in workers] == [0, 0, 0]
    taken = [int(word) for output in outputs for word in output.split()]
    assert sorted(taken) == [n for n in range(1, 121) if n % 3]
    with engine.connect() as connection:
        assert sorted(connection.scalars(select(Curve.trial_id))) == sorted(taken)
    assert Claims(engine, 1).count(Trial.status == "done") == 80
    engine.dispose()


# Leases and tokens.


def test_a_lease_that_has_run_out_can_be_taken_and_its_old_result_is_dropped(
    database: Engine, clock: list[float]
) -> None:
    slow, quick = Claims(database, 1, "slow"), Claims(database, 1, "quick")
    (old,) = slow.take("digits-mlp", "sgd", 1)
    clock[0] += LEASE_SECONDS - 1
    assert quick.take("digits-mlp", "sgd", 1)[0].id != old.id
    assert quick.reap() == 0
    clock[0] += 2
    assert quick.reap() == 1 and quick.reap() == 0
    new = next(t for t in quick.take("digits-mlp", "sgd", 9) if t.id == old.id)
    assert (new.token, new.worker, new.failures, new.error) == (2, "quick", 1, DIED)
    assert slow.finish([result(old, value=9.0, weights=b"old")]) == 0 and old.id not in slow.tokens
    assert row(database, old.id).status == "running"
    assert quick.finish([result(new, value=0.25)]) == 1
    done = row(database, old.id)
    assert (done.status, done.value, done.lease_until) == ("done", 0.25, None)
    assert slow.finish([result(old)]) == quick.finish([result(new)]) == 0  # nor is anything stored twice
    with database.connect() as connection:
        assert connection.scalars(select(Weights.trial_id)).all() == []


def test_a_late_result_counts_while_nobody_else_has_the_trial(database: Engine, clock: list[float]) -> None:
    late = Claims(database, 1, "late")
    (trial,) = late.take("digits-mlp", "sgd", 1)
    clock[0] += 10 * LEASE_SECONDS
    assert late.finish([result(trial)]) == 1


def test_renewing_extends_what_is_held_and_nothing_else(database: Engine, clock: list[float]) -> None:
    mine, other = Claims(database, 1, "me"), Claims(database, 1, "other")
    (kept,) = mine.take("digits-mlp", "sgd", 1)
    (theirs,) = other.take("digits-mlp", "sgd", 1)
    clock[0] += 100
    mine.renew()
    assert row(database, kept.id).lease_until == clock[0] + LEASE_SECONDS
    assert row(database, theirs.id).lease_until == clock[0] - 100 + LEASE_SECONDS
    clock[0] += 100
    third = Claims(database, 1, "third")
    assert third.reap() == 1 and theirs.id in {trial.id for trial in third.take("digits-mlp", "sgd", 9)}
    assert row(database, kept.id).worker == "me"
    Claims(database, 1, "idle").renew()  # holds nothing


def test_a_lost_claim_is_neither_renewed_nor_released_even_by_its_own_namesake(
    database: Engine, clock: list[float]
) -> None:
    """Two claims of one process: the name is the same, the tokens are not."""
    first, second = Claims(database, 1, "same"), Claims(database, 1, "same")
    (old,) = first.take("digits-mlp", "sgd", 1)
    clock[0] += LEASE_SECONDS + 1
    second.reap()
    new = second.take("digits-mlp", "sgd", 1)[0]
    assert new.id == old.id
    clock[0] += 5
    first.renew()
    assert first.lost == {old.id} and first.tokens == {} and second.lost == set()
    assert row(database, new.id).lease_until == clock[0] - 5 + LEASE_SECONDS
    first.release()
    assert row(database, new.id).status == "running"
    assert second.finish([result(new)]) == 1


def test_releasing_gives_back_unfinished_trials_alone(database: Engine) -> None:
    mine = Claims(database, 1, "me")
    trials = mine.take("digits-mlp", "sgd", 3)
    mine.finish([result(trials[0])])
    mine.release()
    assert mine.tokens == {} and states(database).count("waiting") == 11
    assert row(database, trials[0].id).status == "done"
    again = Claims(database, 1, "other").take("digits-mlp", "sgd", 2)
    assert [t.id for t in again] == [t.id for t in trials[1:]] and {t.token for t in again} == {2}
    assert mine.finish([result(trials[1])]) == 0
    mine.release()


def test_a_sleeper_takes_up_what_nobody_else_has_taken(database: Engine, clock: list[float]) -> None:
    """A laptop that was closed: its trials were freed, and it comes back before anybody wants them."""
    sleeper, other = Claims(database, 1, "sleeper"), Claims(database, 1, "other")
    kept, lost = sleeper.take("digits-mlp", "sgd", 2)
    clock[0] += LEASE_SECONDS + 1
    assert other.reap() == 2
    with database.begin() as connection:  # the other takes the second
        connection.execute(update(Trial).where(Trial.id == lost.id).values(status="running", token=2, worker="other"))
    sleeper.renew()
    assert sleeper.lost == {lost.id} and sleeper.tokens == {kept.id: 1}
    assert (row(database, kept.id).status, row(database, kept.id).lease_until) == ("running", clock[0] + LEASE_SECONDS)
    assert sleeper.finish([result(kept), result(lost)]) == 1 and row(database, lost.id).status == "running"


def test_nobody_takes_what_is_still_being_worked_on_here(database: Engine, clock: list[float]) -> None:
    """Freed while this worker slept: it has the trial in a slot, and would run it twice at once."""
    sleeper, other = Claims(database, 1, "sleeper"), Claims(database, 1, "other")
    (mine,) = sleeper.take("digits-mlp", "sgd", 1)
    clock[0] += LEASE_SECONDS + 1
    assert other.reap() == 1 and row(database, mine.id).status == "waiting"
    assert mine.id not in {trial.id for trial in sleeper.take("digits-mlp", "sgd", 2)}
    assert other.take("digits-mlp", "sgd", 9)[0].id == mine.id
    sleeper.renew()
    other.release()
    assert sleeper.lost == {mine.id}
    assert mine.id not in {trial.id for trial in sleeper.take("digits-mlp", "sgd", 9)}  # until its slot is dropped
    sleeper.lost.clear()
    assert [trial.id for trial in sleeper.take("digits-mlp", "sgd", 9)] == [mine.id]


def test_renewing_loses_no_trial_that_was_taken_again_meanwhile(database: Engine) -> None:
    """A look of the heartbeat and a new claim of the same trial cross."""
    mine = Claims(database, 1, "me")
    (old,) = mine.take("digits-mlp", "sgd", 1)
    with database.begin() as connection:
        connection.execute(update(Trial).where(Trial.id == old.id).values(token=5))

    def between(connection: object) -> None:
        mine.tokens[old.id] = 5  # `renew` has noted by now what it holds

    event.listen(database, "commit", between)
    mine.renew()
    event.remove(database, "commit", between)
    assert mine.lost == set() and mine.tokens == {old.id: 5}


def test_a_claim_whose_answer_was_lost_is_taken_up(database: Engine) -> None:
    """The connection breaks after the commit: the trials are ours, and nobody else would know for a lease."""
    mine = Claims(database, 1, "me")
    answers: list[int] = []

    def broken(engine: Engine, body: Callable[[Connection], list[Trial]]) -> list[Trial]:
        answers.extend(trial.id for trial in write(engine, body))
        return write(engine, body)  # as `write` does by itself

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "write", broken)
        taken = mine.take("digits-mlp", "sgd", 3)
    assert sorted(answers) == sorted(trial.id for trial in taken) and len(taken) == 3
    assert {trial.token for trial in taken} == {1} and mine.tokens == dict.fromkeys(answers, 1)
    assert mine.count(Trial.status == "running") == 3


# Failing.


def test_a_trial_that_fails_is_tried_again_at_last_alone_and_then_given_up(database: Engine) -> None:
    mine = Claims(database, 1, "me", retries=2)
    (bad,) = mine.take("digits-mlp", "sgd", 1)
    for failures in (1, 2):
        mine.fail(f"trouble {failures}")
        found = row(database, bad.id)
        assert (found.status, found.failures, found.error) == ("waiting", failures, f"trouble {failures}")
        if failures == 1:
            assert mine.take("digits-mlp", "sgd", 1)[0].id == bad.id
    assert mine.open()["digits-mlp", "sgd"] == {"waiting": 7, "alone": 1}
    assert bad.id not in {trial.id for trial in mine.take("digits-mlp", "sgd", 9)}  # not in company
    mine.release()
    assert [trial.id for trial in mine.take("digits-mlp", "sgd", 9, alone=True)] == [bad.id]
    mine.fail("trouble 3")
    assert (row(database, bad.id).status, row(database, bad.id).failures) == ("failed", 3)
    assert mine.take("digits-mlp", "sgd", 9, alone=True) == [] and mine.open()["digits-mlp", "sgd"]["failed"] == 1
    assert row(database, mine.take("digits-mlp", "sgd", 1)[0].id).failures == 0  # the others are not touched


def test_without_retries_the_first_failure_is_the_last(database: Engine) -> None:
    mine = Claims(database, 1, "me", retries=0)
    trials = mine.take("digits-mlp", "sgd", 2)
    mine.fail("trouble")
    assert {row(database, trial.id).status for trial in trials} == {"failed"}


def test_trials_of_workers_that_were_ended_on_purpose_are_free_unharmed(database: Engine) -> None:
    ended, other = Claims(database, 1, "ended"), Claims(database, 1, "other")
    (theirs,), (mine,) = ended.take("digits-mlp", "sgd", 1), other.take("digits-mlp", "sgd", 1)
    Claims(database, 1, "supervisor", retries=0).free(["ended", "nobody"])
    assert (row(database, theirs.id).status, row(database, theirs.id).failures) == ("waiting", 0)
    assert row(database, mine.id).status == "running"


def test_giving_back_is_no_failure(database: Engine) -> None:
    mine = Claims(database, 1, "me", retries=0)
    (trial,) = mine.take("digits-mlp", "sgd", 1)
    mine.release()
    assert (row(database, trial.id).status, row(database, trial.id).failures) == ("waiting", 0)


# Finishing.


def test_a_result_is_stored_whole(database: Engine, clock: list[float]) -> None:
    mine = Claims(database, 1, "me")
    trials = mine.take("digits-mlp", "sgd", 2)
    diverged = Result(trials[1].id, 1, 10.0, True, {"train_loss": None}, {"gradients": 3}, b"c2")
    assert mine.finish([result(trials[0], weights=b"weights"), diverged]) == 2
    assert mine.tokens == {} and mine.finish([]) == 0
    first, second = row(database, trials[0].id), row(database, trials[1].id)
    assert (first.status, first.value, first.diverged, first.correct) == ("done", 0.5, False, b"right")
    assert (first.measures, first.ledger, first.finished_at) == ({"train_loss": 1.0}, {"gradients": 7}, clock[0])
    assert (second.value, second.diverged, second.measures) == (10.0, True, {"train_loss": None})
    with database.connect() as connection:
        assert {row.trial_id: row.data for row in connection.execute(select(Curve.trial_id, Curve.data))} == {
            first.id: b"curve", second.id: b"c2"
        }  # fmt: skip
        assert connection.execute(select(Weights.trial_id, Weights.data)).all() == [(first.id, b"weights")]


def test_finishing_is_all_or_nothing(database: Engine) -> None:
    """The power goes out between a trial and its curve: neither is there, and both can be stored again."""
    mine = Claims(database, 1, "me")
    trials = mine.take("digits-mlp", "sgd", 3)

    class PowerCutError(Exception):
        pass

    def cut(connection: object, cursor: object, statement: str, parameters: object, *_: object) -> None:
        if "relaxbench_curves" in statement and trials[2].id in tuple(parameters):  # type: ignore[arg-type]
            raise PowerCutError

    event.listen(database, "before_cursor_execute", cut)
    with pytest.raises(PowerCutError):
        mine.finish([result(trial) for trial in trials])
    event.remove(database, "before_cursor_execute", cut)
    assert mine.count(Trial.status == "done") == 0 and len(mine.tokens) == 3
    with database.connect() as connection:
        assert connection.scalars(select(Curve.trial_id)).all() == []
    assert mine.finish([result(trial) for trial in trials]) == 3


def test_claiming_is_all_or_nothing(database: Engine) -> None:
    mine = Claims(database, 1, "me")

    def cut(connection: object, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE"):
            raise KeyboardInterrupt

    event.listen(database, "after_cursor_execute", cut)
    with pytest.raises(KeyboardInterrupt):
        mine.take("digits-mlp", "sgd", 3)
    event.remove(database, "after_cursor_execute", cut)
    assert mine.tokens == {} and set(states(database)) == {"waiting"}


# The dead.


def test_a_worker_s_name_is_its_host_process_and_start() -> None:
    host, pid, started = worker_name().rsplit(":", 2)
    assert (host, int(pid)) == (platform.node(), os.getpid())
    assert abs(float(started) - psutil.Process().create_time()) <= 1


def test_trials_of_a_killed_process_are_free_at_once_and_those_of_a_living_one_are_not(
    database: Engine, file: Path
) -> None:
    living, killed = worker(file, "heat", "hang"), worker(file, "sgd", "hang")
    held = []
    for process in (living, killed):
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("go\n")
        process.stdin.flush()
        held.append([int(word) for word in process.stdout.readline().split()])
    mine = Claims(database, 1)
    assert mine.reap() == 0
    try:
        killed.send_signal(signal.SIGKILL)
        while psutil.Process(killed.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert mine.reap() == 2  # not collected by its parent yet, and dead all the same
        assert [row(database, trial).status for trial in held[1]] == ["waiting"] * 2
        assert [row(database, trial).status for trial in held[0]] == ["running"] * 2
        assert mine.reap() == 0
        assert [t.id for t in mine.take("digits-mlp", "sgd", 2)] == held[1]
        assert mine.reap() == 0  # its own are its own
    finally:
        for process in (living, killed):
            process.kill()
            process.communicate()
    assert mine.reap() == 2


def test_reaping_knows_another_process_with_the_same_number_and_leaves_other_machines_alone(database: Engine) -> None:
    me, host = psutil.Process(), platform.node()
    before = f"{host}:{me.pid}:{me.create_time() - 100:.0f}"  # had this process's number before it
    elsewhere = f"another.host:{2**22 + 1}:1000"
    gone = f"{host}:{2**22 + 1}:1000"
    for name in (before, elsewhere, gone):
        assert len(Claims(database, 1, name).take("digits-mlp", "sgd", 1)) == 1
    assert Claims(database, 1, "reaper:1:1").reap() == 2
    with database.connect() as connection:
        running = connection.scalars(select(Trial.worker).where(Trial.status == "running")).all()
    assert running == [elsewhere]


def test_reaping_keeps_to_its_study(database: Engine) -> None:
    Claims(database, 1, f"{platform.node()}:{2**22 + 1}:1000").take("digits-mlp", "sgd", 1)
    assert Claims(database, 2).reap() == 0
    assert Claims(database, 1).reap() == 1


def test_a_trial_is_unique_in_its_place(database: Engine) -> None:
    from sqlalchemy.exc import IntegrityError

    copy = {"study_id": 1, "problem": "digits-mlp", "method": "sgd", "phase": "explore", "block": 0, "parent": 0}
    with pytest.raises(IntegrityError), database.begin() as connection:
        connection.execute(insert(Trial).values(**copy, number=0, seed=1, params={}, measures={}, ledger={}))
