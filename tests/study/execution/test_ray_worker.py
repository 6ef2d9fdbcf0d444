"""Workers as tasks of a Ray cluster: two nodes on this machine, one of which is lost in the middle of a study."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest

from relaxbench.cli.main import main
from relaxbench.errors import UserError
from relaxbench.store.database import open_database
from relaxbench.store.workers import workers
from relaxbench.study.coordination.ray_cluster import Cluster, check_storage
from relaxbench.study.definition.spec import StudySpec
from relaxbench.study.execution.ray_worker import Order
from tests.postgres import free_port
from tests.study import tiny
from tests.study.results import told_to_optuna

STORE = 80 * 2**20
"""Bytes of a node's object store, which is hardly used."""
PATIENCE = 240.0
STARTED: list[subprocess.Popen[str]] = []
"""To be ended with the cluster, whatever became of their tests."""

BROKEN = """
import os
from relaxbench.problems.landscapes.landscape import Rosenbrock
problem = Rosenbrock("mine")
if "RAY_RAYLET_PID" in os.environ:
    raise ImportError("this node has no package 'fancy'")
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A node with one core; tests add what they need."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster as Nodes

    handler = signal.getsignal(signal.SIGTERM)
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
    quick["worker_niceness"] = 0  # else other processes of tests go before them
    head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": STORE, "_system_config": quick}
    nodes = Nodes(initialize_head=True, head_node_args=head)
    yield nodes
    for process in STARTED:
        process.kill()
    nodes.shutdown()
    signal.signal(signal.SIGTERM, handler)  # Ray has put its own there


def settled(folder: Path, s: StudySpec) -> None:
    """The study in its database, its engine and costs set and not measured (in processes that a test cannot reach)."""
    database = open_database(str(folder / "study.db"))
    tiny.settle(database, s, population=3)
    database.dispose()


def study(folder: Path, cluster: Any, s: StudySpec) -> subprocess.Popen[str]:
    """The command, on a cluster."""
    file = folder / "tiny.toml"
    asked = s.model_dump(exclude_unset=True)
    file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in asked.items()))
    line = [sys.executable, "-m", "relaxbench", "study", str(file), "--storage", str(folder / "study.db")]
    line += ["--engine", "ray", "--address", cluster.address, "--workers", "2", "--no-report"]
    line += ["--checkpoints", str(folder / "checkpoints")]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    STARTED.append(process)
    return process


def until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """What a condition gives as soon as it is true."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        if found := condition():
            return found
        time.sleep(0.2)
    process.kill()
    raise AssertionError(f"it did not come to that:\n{process.communicate()[0]}")


def ended(process: subprocess.Popen[str]) -> str:
    """What a command printed."""
    return process.communicate(timeout=PATIENCE)[0]


def running(folder: Path) -> dict[int, int]:
    """How many trials each process is running, by its number."""
    counts: dict[int, int] = {}
    for row in tiny.rows(folder):
        if row.status == "running":
            number = int(row.worker.split(":")[-2])
            counts[number] = counts.get(number, 0) + 1
    return counts


def writable(folder: Path) -> bool:
    """Whether no process holds the lock of the database: a stopped one would hold it for ever."""
    with contextlib.closing(sqlite3.connect(folder / "study.db", timeout=0.1, isolation_level=None)) as file:
        try:
            file.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        file.execute("ROLLBACK")
        return True


def sessions(folder: Path) -> int:
    """How many workers there have been."""
    database = tiny.opened(folder)
    count = len(workers(database, 1))
    database.dispose()
    return count


def ancestors(number: int) -> set[int]:
    """The numbers of a process's ancestors."""
    try:
        return {parent.pid for parent in psutil.Process(number).parents()}
    except psutil.NoSuchProcess:
        return set()


def test_a_study_that_is_stopped_and_then_loses_a_node_ends_as_if_nothing_had_happened(
    cluster: Any, tmp_path: Path
) -> None:
    s = tiny.spec(budget=300, looks=[6], trials=1, exploit=4, recommend=1, flatness=False)
    folder = tmp_path / "ray"
    folder.mkdir()
    settled(folder, s)
    node = cluster.add_node(num_cpus=1, object_store_memory=STORE)
    raylet = node.all_processes["raylet"][0].process.pid

    process = study(folder, cluster, s)
    until(lambda: len(running(folder)) == 2, process)
    process.send_signal(signal.SIGINT)
    said = ended(process)
    assert process.returncode == 130 and "Stopped." in said, said
    rows = tiny.rows(folder)
    assert {row.status for row in rows} <= {"waiting", "done"}
    assert not any(row.failures for row in rows)
    unfinished = {file.stem.rpartition("-")[2] for file in (folder / "checkpoints").glob("*.pt")}
    assert unfinished, "trials go on from where they were"

    process = study(folder, cluster, s)
    held = until(lambda: pair if len(pair := running(folder)) == 2 else None, process)
    (survivor,) = (each for each in held if raylet not in ancestors(each))
    (doomed,) = set(held) - {survivor}

    def frozen() -> bool:
        """Both in the midst of trials: the survivor would finish the study before Ray has noticed anything."""
        for each in held:
            os.kill(each, signal.SIGSTOP)
        if len(running(folder)) == 2 and writable(folder):
            return True
        for each in held:
            os.kill(each, signal.SIGCONT)
        return False

    until(frozen, process)
    before = sessions(folder)
    cluster.remove_node(node, allow_graceful=False)
    with contextlib.suppress(ProcessLookupError):
        os.kill(doomed, signal.SIGKILL)  # as a lost node's are: one that is stopped does not notice
    replacement = cluster.add_node(num_cpus=1, object_store_memory=STORE)
    until(lambda: sessions(folder) > before, process)
    os.kill(survivor, signal.SIGCONT)
    said = ended(process)
    assert process.returncode == 0, said
    assert "raylet" not in said, said  # Ray talks much of a lost node

    rows = tiny.rows(folder)
    assert len(rows) == tiny.expected(s) == 34
    assert {row.status for row in rows} == {"done"}
    assert 1 <= sum(row.failures for row in rows) <= 3  # what one worker held
    cluster.remove_node(replacement)
    whole = tmp_path / "whole"
    whole.mkdir()
    settled(whole, s)
    assert tiny.run(whole, s, population=12).missing == 0
    assert tiny.results(folder) == tiny.results(whole)
    with told_to_optuna(folder) as storage:
        mirrored = [trial for study in storage.get_all_studies() for trial in storage.get_all_trials(study._study_id)]
    states = [trial.state for trial in mirrored]
    assert len(states) == sum(row.phase in ("explore", "exploit") for row in rows)
    assert set(states) == {optuna.trial.TrialState.COMPLETE}


def test_a_mistake_in_a_task_is_told_in_one_line(cluster: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(BROKEN)
    process = study(tmp_path, cluster, tiny.spec(problems=[str(file)], looks=[6], flatness=False))
    said = ended(process)
    assert process.returncode == 2, said
    *_, last = said.splitlines()
    assert last.startswith("relaxbench: ") and "fancy" in last
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--engine spark", "--engine 'spark': expected local or ray"),
        ("--engine ray", "--engine ray needs a number of workers: add --workers N"),
        ("--engine ray --workers 0", "0 workers: expected 1 to 4096 (option --workers)"),
        ("--engine ray --workers 2 --gpus-per-worker 1.5", "1.5 GPUs per worker: expected 0"),
        ("--engine ray --workers 2 --gpus-per-worker nan", "nan GPUs per worker: expected 0"),
        (
            "--engine ray --workers 2 --cpus-per-worker 0",
            "0 CPUs per worker: expected 1 to 1024",
        ),
        ("--engine ray --workers 2 --address there", "--address 'there': expected auto or HOST:PORT"),
        ("--engine ray --workers 2 --device cpu", "--device cpu: not with --engine ray"),
        ("--engine ray --workers 2 --per-device 2", "--per-device 2: not with --engine ray"),
        ("--address auto", "--address auto: only with --engine ray"),
        ("--gpus-per-worker 0.25", "--gpus-per-worker 0.25: only with --engine ray"),
        ("--cpus-per-worker 2", "--cpus-per-worker 2: only with --engine ray"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    options: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = f"sqlite:///{tmp_path / 'x.db'}"
    assert main(["study", "--problem", "rosenbrock", "--storage", storage, *options.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"relaxbench: {said}") and error.count("\n") == 1
    assert not (tmp_path / "x.db").exists()


def test_without_a_cluster_or_room_in_it_one_line_says_so(
    cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["study", "--problem", "rosenbrock", "--storage", f"sqlite:///{tmp_path / 'x.db'}"]
    line += ["--engine", "ray", "--workers", "1"]
    assert main([*line, "--address", f"127.0.0.1:{free_port()}"]) == 2
    error = capsys.readouterr().err
    assert "no Ray cluster can be joined at" in error and error.count("\n") == 1
    before = signal.getsignal(signal.SIGTERM)
    assert main([*line, "--address", cluster.address, "--gpus-per-worker", "0.5"]) == 2
    error = capsys.readouterr().err
    assert "no node of the cluster holds a worker of 1 CPU and 0.5 GPUs" in error
    assert error.count("\n") == 1
    assert signal.getsignal(signal.SIGTERM) is before
    assert not (tmp_path / "x.db").exists()


def test_a_node_holds_whole_workers() -> None:
    node = {"CPU": 8.0, "GPU": 2.0}
    room = {
        (gpus, cpus): Cluster("auto", 1, gpus, cpus).fit(node) for gpus in (0, 0.25, 0.3, 0.1, 1) for cpus in (1, 3)
    }
    assert [room[gpus, 1] for gpus in (0, 0.25, 0.3, 0.1, 1)] == [8, 8, 6, 8, 2]
    assert [room[gpus, 3] for gpus in (0, 0.25, 0.3, 0.1, 1)] == [2, 2, 2, 2, 2]
    assert Cluster("auto", 1, 0.25, 1).fit({"CPU": 8.0}) == 0


def test_a_file_is_no_storage_for_several_machines() -> None:
    with pytest.raises(UserError, match="is a file, which the cluster's other machines cannot share: use PostgreSQL"):
        check_storage("sqlite:///x.db", {"10.0.0.1", "10.0.0.2"}, "10.0.0.1")
    check_storage("sqlite:///x.db", {"10.0.0.1"}, "10.0.0.1")
    check_storage("postgresql+psycopg://user:secret@host/name", {"10.0.0.1", "10.0.0.2"}, "10.0.0.1")


def test_an_order_does_not_show_the_password() -> None:
    order = Order("postgresql+psycopg://user:secret@host/name", "s", [], [], "cpu", 1, None, "checkpoints", 3)
    assert "secret" not in f"{order} {order!r}"
