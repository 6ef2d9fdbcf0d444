"""Claims: a trial has one worker at a time, and a result counts only with the latest token."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event, select, update

from relaxbench.store import claims as module
from relaxbench.store.claims import DIED, LEASE_SECONDS, Claims
from relaxbench.store.database import open_database
from relaxbench.store.schema import Curve, Trial, Weights
from relaxbench.store.transactions import write
from tests.store.claimed import result, row, states, worker

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


def test_a_worker_that_slept_beyond_its_lease_keeps_trials_that_nobody_has_taken(
    database: Engine, clock: list[float]
) -> None:
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


def test_a_trial_in_progress_is_not_taken_again_by_its_own_worker(database: Engine, clock: list[float]) -> None:
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
