"""`study --workers`, as a person starts it: real processes, of which some are killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import Engine, select

from relaxbench.cli.main import main
from relaxbench.store.claims import Claims
from relaxbench.store.database import open_database
from relaxbench.store.schema import Trial
from relaxbench.store.workers import workers
from tests.cli.commands import SPEC, command, printed, refused
from tests.postgres import Server
from tests.processes import Forked
from tests.study import tiny
from tests.study.results import assert_mirrored

pytestmark = pytest.mark.usefixtures("study_file")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """The results of the study from a single process, undisturbed."""
    place = tmp_path_factory.mktemp("whole")
    engine = open_database(str(place / "study.db"))
    tiny.settle(engine, SPEC)
    engine.dispose()
    tiny.run(place, SPEC, population=12)
    return tiny.results(place)


def start(*arguments: str, storage: str = "study.db") -> Forked:
    return command(*arguments, "--storage", storage, "--device", "cpu")


def ended(process: Forked, code: int = 0) -> str:
    """What a process printed that had to end well."""
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, out + err
    assert "Traceback" not in out + err
    return out + err


def wait_for(what: Callable[[], Any], *processes: Forked) -> Any:
    limit = time.monotonic() + 120
    while not (found := what()):
        assert time.monotonic() < limit and all(process.poll() is None for process in processes)
        time.sleep(0.02)
    return found


def crew(database: Engine) -> list[Any]:
    return [row for row in workers(database, 1) if row.ended_at is None]


def pid(name: str) -> int:
    return int(name.split(":")[-2])


def trials(database: Engine) -> list[Any]:
    with database.connect() as connection:
        return list(connection.execute(select(Trial.__table__)))


def nothing_runs(database: Engine) -> bool:
    """No worker's process is left, nor is any trial in anybody's hands."""
    alive = [
        row.name for row in workers(database, 1) if psutil.pid_exists(pid(row.name)) and pid(row.name) != os.getpid()
    ]
    return not alive and not any(row.status == "running" for row in trials(database))


def test_a_killed_worker_changes_nothing_in_the_end(
    database: Engine, whole: dict[Any, Any], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exact count, same bits as a single process, nothing running, Optuna complete, no file left."""
    study = start("study", "tiny.toml", "--workers", "2", "--no-report")
    done = Trial.status == "done"
    victim = wait_for(
        lambda: Claims(database, 1, "-").count(done) > 3 and next((r.name for r in crew(database) if r.running), None),
        study,
    )
    os.kill(pid(victim), signal.SIGKILL)
    out = ended(study)
    assert "Study tiny: 2 workers on cpu (2)." in out and "on cpu was killed by SIGKILL: started again" in out
    assert "36 trials in" in out and "SGD is the baseline" in out
    assert tiny.results(folder) == whole and nothing_runs(database)
    assert any(row.failures == 1 and row.error == "its worker died" for row in trials(database))
    assert_mirrored(folder, SPEC)
    assert list(Path("checkpoints").glob("*")) == []
    assert len({row.name for row in workers(database, 1)}) == 3
    at = ("--storage", "study.db", "--device", "cpu")
    again = printed(capsys, "study", "tiny.toml", "--workers", "2", "--no-report", *at)
    assert "All 36 trials of study 'tiny' are done; nothing was run." in again


def test_after_ctrl_c_the_same_command_goes_on_and_others_may_help(
    database: Engine, whole: dict[Any, Any], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped, then continued by two supervisors and a worker that joins from this process, all at once."""
    line = ("study", "tiny.toml", "--workers", "2", "--no-report")
    study = start(*line)
    wait_for(lambda: Claims(database, 1, "-").count(Trial.status == "done"), study)
    study.send_signal(signal.SIGINT)
    out = ended(study, 130)
    left = trials(database)
    done = sum(row.status == "done" for row in left)
    assert 0 < done < 36 and {row.status for row in left} == {"done", "waiting"} and nothing_runs(database)
    assert {row.failures for row in left} == {0}
    assert "Stopping at the end of a round" in out and f"Stopped. {done} of 36 trials are done and kept." in out
    assert "python -m relaxbench study tiny.toml --workers 2 --no-report" in out
    assert not list(Path("checkpoints").glob("*.log"))
    helpers = [start(*line[:2], "--workers", "1", "--no-report") for _ in range(2)]
    out = printed(capsys, "worker", "tiny", "--storage", "study.db", "--device", "cpu")
    assert "trials in" in out or "nothing was run" in out
    for each in helpers:
        ended(each)
    assert tiny.results(folder) == whole and nothing_runs(database)
    sessions = workers(database, 1)
    assert sum(row.finished for row in sessions) == 36 and all(row.ended_at for row in sessions)
    assert_mirrored(folder, SPEC)


def test_a_server_that_crashes_is_waited_for_and_changes_nothing(whole: dict[Any, Any], server: Server) -> None:
    url = server.new_url()
    engine = open_database(url)
    tiny.settle(engine, SPEC)
    study = start("study", "tiny.toml", "--workers", "2", "--no-report", storage=url)
    wait_for(lambda: Claims(engine, 1, "-").count(Trial.status == "done") > 3, study)
    server.stop("immediate")
    time.sleep(1)
    server.start()
    out = ended(study)
    assert "started again" not in out  # nobody gave up
    assert tiny.results_in(engine) == whole and nothing_runs(engine)
    assert {row.failures for row in trials(engine)} == {0} and all(
        row.mirrored for row in trials(engine) if not row.parent
    )
    engine.dispose()


FAILS = """
import torch
from relaxbench.problems import SupervisedProblem
import relaxbench.training.population as population
from tests.study import tiny

tiny.steady()  # nothing is measured before the first trial of each process
LIMIT = 0.12
x = torch.arange(120.0).view(40, 3).sin()
y = (x.sum(1) > 0).long()
problem = SupervisedProblem("fails", lambda: torch.nn.Linear(3, 2),
                            lambda: {s: (x, y) for s in ("train", "validation", "test")}, batch_size=8, budget=40)

admit = population.Population.admit
def admitted(self, jobs):
    if any(job.params["lr"] > LIMIT for job in jobs):
        raise RuntimeError("this one is too large")
    admit(self, jobs)
population.Population.admit = admitted
"""


def test_trials_that_always_fail_are_told_and_do_not_stop_the_others(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under a supervisor: they crash their workers, are given up, and everything else is finished."""
    (folder / "fails.py").write_text(FAILS)
    (folder / "f.toml").write_text(
        'name = "f"\nproblems = ["fails.py"]\nmethods = ["sgd"]\nseed = 4\nlooks = [6]\ntrials = 1\n'
        "exploit = 0\nrecommend = 0\nflatness = false\n"
    )
    out = ended(start("study", "f.toml", "--workers", "1", "--population", "1", "--retries", "1", "--no-report"), 3)
    engine = open_database("study.db")
    found = trials(engine)
    engine.dispose()
    bad = {row.id for row in found if row.params["lr"] > 0.12}
    failed = {row.id for row in found if row.status == "failed"}
    assert len(failed) == 1 and failed == bad and {row.failures for row in found if row.id in bad} == {2}
    assert {row.status for row in found if row.id not in bad} == {"done"}
    assert f"{len(failed)} failed too often" in out and "python -m relaxbench reap f --failed" in out
    assert "(RuntimeError: this one is too large): started again" in out
    status = printed(capsys, "status", "f", "--storage", "study.db")
    assert "1 trial failed at least once:" in status
    assert "2×, given up; RuntimeError: this one is too large" in status


def test_stopped_with_failed_trials_the_study_says_how_to_go_on(
    database: Engine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial that was given up is no reason to call the rest hopeless."""
    mine = Claims(database, 1, retries=0)
    mine.take("rosenbrock", "sgd", 1)
    mine.fail("no")
    from relaxbench.study.execution import run

    monkeypatch.setattr(run.StudyRun, "_session", lambda self, *_: os.kill(os.getpid(), signal.SIGINT) or 0)
    code = main(["study", "tiny.toml", "--storage", "study.db", "--device", "cpu", "--no-report"])
    out = capsys.readouterr().out
    assert code == 130 and "Stopped. 0 of 36 trials are done and kept. Continue with:" in out


def test_a_crew_on_another_kind_of_device_than_its_study_is_refused(
    database: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    from relaxbench.study.coordination.manifest import edit_manifest

    edit_manifest(database, 1, lambda manifest: manifest.update(device="cuda"))
    line = refused(capsys, "study", "tiny.toml", "--storage", "study.db", "--devices", "cpu", "--workers", "2")
    assert "study 'tiny' began on cuda, not on cpu" in line
