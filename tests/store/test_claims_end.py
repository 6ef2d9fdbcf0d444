"""How claims end: trials that fail, results that are stored whole, and workers that die."""

from __future__ import annotations

import os
import platform
import signal
import time
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine, event, insert, select

from relaxbench.store.claims import Claims, Result, worker_name
from relaxbench.store.schema import Curve, Trial, Weights
from tests.store.claimed import result, row, states, worker

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


def test_trials_that_are_given_back_count_no_failure(database: Engine) -> None:
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


def gone(pid: int) -> bool:
    """Whether a process is dead, collected by its parent or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


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
        while not gone(killed.pid):
            time.sleep(0.01)
        assert mine.reap() == 2  # its parent may not have collected it yet: it is dead all the same
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


def test_reaping_frees_only_trials_of_its_own_study(database: Engine) -> None:
    Claims(database, 1, f"{platform.node()}:{2**22 + 1}:1000").take("digits-mlp", "sgd", 1)
    assert Claims(database, 2).reap() == 0
    assert Claims(database, 1).reap() == 1


def test_two_trials_with_one_block_and_number_are_refused(database: Engine) -> None:
    from sqlalchemy.exc import IntegrityError

    copy = {"study_id": 1, "problem": "digits-mlp", "method": "sgd", "phase": "explore", "block": 0, "parent": 0}
    with pytest.raises(IntegrityError), database.begin() as connection:
        connection.execute(insert(Trial).values(**copy, number=0, seed=1, params={}, measures={}, ledger={}))
