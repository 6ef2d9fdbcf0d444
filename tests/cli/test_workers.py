"""Many workers on one study, as a person starts them: real processes, of which some are killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console
from sqlalchemy import Engine, select

from relaxbench.cli import main as cli
from relaxbench.cli import options as cli_options
from relaxbench.store.claims import Claims
from relaxbench.store.database import open_database
from relaxbench.store.schema import Study, Trial
from relaxbench.store.workers import arrive, workers
from tests.cli.test_main import command, nothing_written, printed, refused
from tests.postgres import Server, free_port
from tests.study import tiny
from tests.study.coordination.test_manifest import DEAD
from tests.study.execution.test_run import assert_mirrored

SPEC = tiny.spec(budget=200)
"""Long enough to be disturbed."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run in, with a study file and a wide console that is no terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli_options, "console", Console(width=300, highlight=False))
    (tmp_path / "tiny.toml").write_text(tiny.file(SPEC))
    return tmp_path


@pytest.fixture
def database(folder: Path) -> Iterator[Engine]:
    """In which the study has begun, and everything that a clock decides is decided."""
    engine = open_database("study.db")
    tiny.settle(engine, SPEC)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """The results of the study from a single process, undisturbed."""
    place = tmp_path_factory.mktemp("whole")
    engine = open_database(str(place / "study.db"))
    tiny.settle(engine, SPEC)
    engine.dispose()
    tiny.run(place, SPEC)
    return tiny.results(place)


def start(*arguments: str, storage: str = "study.db") -> subprocess.Popen[str]:
    return command(*arguments, "--storage", storage, "--device", "cpu")


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    """What a process printed that had to end well."""
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, out + err
    assert "Traceback" not in out + err
    return out + err


def wait_for(what: Callable[[], Any], *processes: subprocess.Popen[str]) -> Any:
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


# --- together ---------------------------------------------------------------------------------------------------------


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
    database: Engine, whole: dict[Any, Any], folder: Path
) -> None:
    """Stopped, then continued by two supervisors and a worker that joins, all at once."""
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
    helper = start("worker", "tiny")
    outs = [ended(each) for each in (*helpers, helper)]
    assert "trials in" in outs[2] or "nothing was run" in outs[2]
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


# --- trials that fail -------------------------------------------------------------------------------------------------

FAILS = """
import torch
from relaxbench.problems import SupervisedProblem
import relaxbench.training.population as population

LIMIT = 0.1
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
        'name = "f"\nproblems = ["fails.py"]\nmethods = ["sgd"]\nblocks = 2\ntrials = 3\nexploit = 0\nrecommend = 0\n'
    )
    out = ended(start("study", "f.toml", "--workers", "1", "--population", "1", "--retries", "1", "--no-report"), 3)
    engine = open_database("study.db")
    found = trials(engine)
    engine.dispose()
    bad = {row.id for row in found if row.params["lr"] > 0.1}
    failed = {row.id for row in found if row.status == "failed"}
    assert len(failed) == 1 and failed == bad and {row.failures for row in found if row.id in bad} == {2}
    assert {row.status for row in found if row.id not in bad} == {"done"}
    assert f"{len(failed)} failed too often" in out and "python -m relaxbench reap f --failed" in out
    assert "(RuntimeError: this one is too large): started again" in out
    status = printed(capsys, "status", "f", "--storage", "study.db")
    assert "1 trial had to be given back:" in status
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
    code = cli.main(["study", "tiny.toml", "--storage", "study.db", "--device", "cpu", "--no-report"])
    out = capsys.readouterr().out
    assert code == 130 and "Stopped. 0 of 36 trials are done and kept. Continue with:" in out


# --- refused ----------------------------------------------------------------------------------------------------------

BAD: list[tuple[tuple[str, ...], str]] = [
    (("study", "--workers", "0"), "--workers 0: expected 1 to 1024"),
    (("study", "--workers", "two"), "--workers"),
    (("study", "--devices", "gpu"), "--devices 'gpu': 'gpu' is no device"),
    (("study", "--devices", ""), "--devices '': '' is no device"),
    (("study", "--devices", "cpu,cuda:0"), "a study runs on one kind of device, cuda or cpu"),
    (("study", "--devices", "cpu", "--device", "cuda:77"), "cuda:77"),
    (("study", "--device", "gpu", "--workers", "2"), "'gpu'"),
    (("study", "--devices", "cuda:77"), "device 'cuda:77' is not there (no CUDA device is usable here): use cpu, or"),
    (("study", "--devices", "cuda:99999"), "device 'cuda:99999' is not there"),
    (("study", "--per-device", "0"), "--per-device 0: expected 1 to 1024"),
    (("study", "--workers", "3", "--per-device", "2", "--device", "cpu"), "--workers 3 do not fit on 1 device"),
    (("study", "--retries", "-1"), "--retries -1: expected 0 to 1000"),
    (("study", "--retries", "9" * 20), f"--retries {'9' * 20}: expected 0 to 1000"),
    (("study", "tiny.toml", "--name", "x" * 201), f"--name '{'x' * 201}': "),
    (("study", "--workers", "2", "--population", "0"), "--population 0: expected at least 1"),
    (("worker", "tiny"), "'sqlite:///relaxbench.db' does not exist"),
    (("worker",), "'study'"),
    (("worker", "tiny", "--retries", "-1"), "--retries -1: expected 0 to 1000"),
    (("worker", "tiny", "--retries", "1001"), "--retries 1001: expected 0 to 1000"),
    (("worker", "tiny", "--checkpoints", ""), "'--checkpoints': '' names no file or folder"),
    (("worker", "tiny", "--population", "0"), "--population 0: expected at least 1"),
    (("worker", "tiny", "--checkpoints", "/dev/null"), "--checkpoints '/dev/null'"),
    (("worker", "tiny", "--data-dir", "no/such"), "--data-dir 'no/such' is not a folder"),
    (("worker", "nobody", "--storage", "study.db"), "unknown study 'nobody': did you mean"),
    (("worker", "tiny", "--storage", "study.db", "--device", "gpu"), "'gpu'"),
    (("worker", "tiny", "--storage", "study.db", "--problem", "none.py"), "'none.py' does not exist"),
    (("worker", "none.toml", "--storage", "study.db"), "'none.toml' does not exist"),
    (("status",), "does not exist"),
    (("status", "tyni", "--storage", "study.db"), "unknown study 'tyni': did you mean 'tiny'?"),
    (("reap",), "does not exist"),
    (("reap", "tyni", "--storage", "study.db"), "unknown study 'tyni': did you mean 'tiny'?"),
    (("reap", "--worker", "host:1", "--storage", "study.db"), "--worker 'host:1': no worker holds trials of this"),
    (("stress", "--json", "."), "--json '.' is a folder: name a file in it"),
    (("stress", "--json", "tiny.toml/x.json"), "--json 'tiny.toml/x.json': "),
    (("stress", "--json", "/proc/nowhere/x.json"), "--json '/proc/nowhere/x.json': '/proc' is not writable"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD, ids=lambda value: " ".join(value) if type(value) is tuple else "")
def test_bad_input_is_one_line_and_code_2(
    arguments: tuple[str, ...], words: str, database: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    if "nobody" in arguments:
        words = "unknown study 'nobody'"
    with database.connect() as connection:
        before = connection.execute(select(Study.__table__)).all()
    with nothing_written():
        line = refused(capsys, *arguments)
    assert words in line
    with database.connect() as connection:
        assert connection.execute(select(Study.__table__)).all() == before


def test_a_crew_on_another_kind_of_device_than_its_study_is_refused(
    database: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    from relaxbench.study.coordination.manifest import edit_manifest

    edit_manifest(database, 1, lambda manifest: manifest.update(device="cuda"))
    line = refused(capsys, "study", "tiny.toml", "--storage", "study.db", "--devices", "cpu", "--workers", "2")
    assert "study 'tiny' began on cuda, not on cpu" in line


def test_a_proxy_that_is_not_there_is_refused_before_a_database_is_made(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("grpc")
    from relaxbench.study.coordination import optuna_proxy

    monkeypatch.setattr(optuna_proxy, "READY_SECONDS", 0.2)
    for more in ((), ("--workers", "2")):
        said = refused(capsys, "study", "tiny.toml", "--device", "cpu", "--optuna", f"127.0.0.1:{free_port()}", *more)
        assert "no gRPC storage proxy of Optuna answers there" in said


def test_rights_that_are_wanting_are_one_line_and_those_that_are_advised_suffice(
    server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For another user of the database than the one who began the study."""
    url = server.new_url()
    engine = open_database(url)
    tiny.settle(engine, SPEC)
    server.execute("CREATE USER guest")
    server.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest", url)
    at = ("--storage", url.replace("tester@", "guest@"))
    cpu = ("--device", "cpu")
    Claims(engine, 1, DEAD).take("rosenbrock", "sgd", 2)  # of whom there is something to free
    for line in ("status", "show"):
        assert "rosenbrock" in printed(capsys, line, *at)
    for line in (("reap",), ("worker", "tiny", *cpu), ("study", "tiny.toml", "--no-report", *cpu)):
        assert cli.main([*line, *at]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and "permission denied for table relaxbench_" in err
        assert "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES" in err and "GRANT CREATE" not in err
    assert {row.status for row in trials(engine)} == {"waiting", "running"}
    (advised,) = re.findall(r"\((GRANT.*)\)", err)
    for grant in advised.split(", GRANT "):
        server.execute(f"GRANT {grant.removeprefix('GRANT ')} TO guest", url)
    assert "2 trials freed" in printed(capsys, "reap", *at)
    presence = arrive(open_database(at[1], create=False), 1, "guest:1:1", "cpu", {})
    presence.leave()
    assert [row.name for row in workers(engine, 1)] == ["guest:1:1"]
    engine.dispose()
    presence.engine.dispose()


def test_a_file_that_is_damaged_is_one_line(database: Engine, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the pages of a table: the file can still be opened."""
    with database.connect() as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'relaxbench_trials'"
        page = connection.exec_driver_sql(query).scalar_one()
        size = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    database.dispose()
    with Path("study.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    for line in (("status",), ("show",)):
        said = refused(capsys, *line, "--storage", "study.db")
        assert "(database disk image is malformed): the file is damaged: restore a copy of it" in said


# --- status and reap --------------------------------------------------------------------------------------------------


def test_status_and_reap_by_hand(database: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    Claims(database, 1, DEAD).take("rosenbrock", "sgd", 3)
    at = ("--storage", "study.db")
    out = printed(capsys, "status", *at)
    assert "Study tiny" in out and "Nobody is working on it." in out
    assert re.search(r"rosenbrock\s+sgd\s+\d+\s+3\s+0\s+0$", out, re.MULTILINE)
    assert printed(capsys, "reap", "tiny", *at) == "3 trials freed\n"
    assert printed(capsys, "reap", *at) == "0 trials freed\n"
    Claims(database, 1, "far:1:1").take("rosenbrock", "heat", 1)
    assert printed(capsys, "reap", *at, "--worker", "far:1") == "1 trial freed\n"
    Claims(database, 1, "far:1:1").take("rosenbrock", "heat", 2)
    assert printed(capsys, "reap", *at, "--all") == "2 trials freed\n"
    mine = Claims(database, 1, retries=0)
    mine.take("rosenbrock", "heat", 2)
    mine.fail("no")
    assert printed(capsys, "reap", *at, "--failed") == "0 trials freed, 2 to be tried again\n"
    assert {row.status for row in trials(database)} == {"waiting"}
