"""Workers that are forked from one process: their output, their exit codes, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from relaxbench.cli import forked
from relaxbench.cli.forked import ForkedWorker, can_fork, long

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each worker is an interpreter of its own")

STARTS = """
import os, sys, time
from pathlib import Path
from relaxbench.cli import forked
forked.IMPORTED.clear()
command = [sys.executable, "-m", "relaxbench", "check", "loop.py"]
if __name__ == "__main__":
    environment = {"OMP_NUM_THREADS": "1", "RELAXBENCH_SUPERVISOR": str(os.getpid())}
    worker = forked.ForkedWorker(command, {**os.environ, **environment}, Path("log"))
    time.sleep(600)
"""
LOOP = """
import os, time
from relaxbench.study.coordination.supervisor import orphaned
assert not orphaned()
open("began", "w").write(f"{os.getpid()} {os.getsid(0)}\\n")
while not orphaned():
    time.sleep(0.01)
open("noticed", "w").close()
"""
"""Stands for a worker's rounds: it ends when it is orphaned."""


def until(holds: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_workers_on_the_cpu_alone_are_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_fork(["cpu", "cpu"]) and not can_fork(["cuda:0", "cuda:1"])
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not can_fork(["cpu"])


@pytest.mark.parametrize(
    ("text", "arguments", "expected"),
    [
        (None, (None, None, None, None), True),  # the default study
        (None, ("2", 2, None, None), False),
        ("", (None, None, None, None), True),
        ("looks = [3, 6]\ntrials = 2\nbudget = 40\nmethods = ['sgd', 'heat']", (None, None, None, None), False),
        ("looks = [3, 6]\ntrials = 2\nbudget = 40\nmethods = ['sgd', 'heat']", ("10,20", 50, 600, None), True),
        ("looks = [3, 6]\ntrials = 20\nbudget = 600\nmethods = ['sgd', 'heat']", (None, None, None, None), True),
        ("looks = 3", (None, None, None, None), False),
        ("looks = []", (None, None, None, None), False),
        ("trials = {}", (None, None, None, None), False),
        ("no TOML", ("a,b", None, None, None), False),
    ],
)
def test_a_long_study_is_foreseen_from_what_is_written(
    text: str | None,
    arguments: tuple[str | None, int | None, int | None, list[str] | None],
    expected: bool,
    tmp_path: Path,
) -> None:
    file = tmp_path / "study.toml"
    file.write_text(text or "")
    assert long(None if text is None else str(file), *arguments) == expected


def test_what_a_study_does_not_say_is_foreseen_as_its_default() -> None:
    from relaxbench.problems import problem
    from relaxbench.study.definition.spec import StudySpec

    fields = StudySpec.model_fields
    defaults = (fields["looks"].default[-1], fields["trials"].default, problem("digits-mlp").budget)
    assert defaults == (forked.BLOCKS, forked.TRIALS, forked.BUDGET)


def test_what_a_worker_says_is_in_its_log_and_its_code_is_that_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(forked, "IMPORTED", [])
    log = tmp_path / "log"
    log.write_text("before\n")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    worker = ForkedWorker([sys.executable, "-m", "relaxbench", "worker"], environment, log)
    assert worker.wait() == worker.poll() == 2
    assert log.read_text().startswith("before\nrelaxbench: Missing argument 'study'")
    assert capfd.readouterr() == ("", "")
    worker.kill()  # nothing happens to whoever has its number now


def test_a_worker_notices_that_its_supervisor_was_killed(tmp_path: Path) -> None:
    (tmp_path / "starts.py").write_text(STARTS)
    (tmp_path / "loop.py").write_text(LOOP)
    supervisor = subprocess.Popen([sys.executable, "starts.py"], cwd=tmp_path)
    try:
        began = tmp_path / "began"
        until(lambda: began.exists() and began.read_text().endswith("\n"))
        worker, session = map(int, began.read_text().split())
        assert session == worker  # Ctrl-C in a terminal does not reach it
    finally:
        supervisor.kill()
        supervisor.wait()
    until((tmp_path / "noticed").exists)


IMPORTS = """
import os, time
from relaxbench.cli import forked
forked.IMPORTED[:] = ["slow"]
forked.prepare()
try:
    while not os.path.exists("imported"):
        time.sleep(0.01)
except KeyboardInterrupt:
    while not os.path.exists("imported"):
        time.sleep(0.01)
"""
SLOW = """
import os, time
open("began", "w").close()
while not os.path.exists("interrupted"):
    time.sleep(0.01)
open("imported", "w").close()
"""
"""Stands for what workers import: it goes on until Ctrl-C was sent, and then ends as it would have without it."""


def test_ctrl_c_while_workers_import_is_for_the_command_alone(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    process = subprocess.Popen(
        [sys.executable, "-c", IMPORTS], cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        until((tmp_path / "began").exists)
        os.killpg(process.pid, signal.SIGINT)
        (tmp_path / "interrupted").touch()
        assert process.communicate(timeout=60)[1] == "" and process.returncode == 0
    finally:
        process.kill()
    assert (tmp_path / "imported").exists()
