"""A script that is run by a host: what comes back, how it fails, how it is ended."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from relaxbench.errors import UserError
from relaxbench.loop.job import Job
from relaxbench.loop.runs import Host
from tests.loop import scripts

JOB = Job("one", {"lr": 0.1}, 7, 40, "explore", tested=False, reports=4, limit=80)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host of a script that does what its method says."""
    text = """
        import os, sys, time, relaxbench
        trial = relaxbench.trial()
        print("noise", trial.method)
        if trial.method == "raises":
            raise ValueError("no such\\nlayer")
        if trial.method == "exits":
            sys.exit(3)
        if trial.method == "dies":
            print("Segmentation fault", file=sys.stderr, flush=True)
            os.abort()
        if trial.method == "sleeps":
            trial.bill()
            time.sleep(60)
        if trial.method == "goes on":
            start = 0
            if trial.checkpoint_path.exists():
                start = int(trial.checkpoint_path.read_text())
            trial.load_state_dict({"billed": start, "reported": start, "curve": []})
            for step in range(start, 40):
                trial.bill()
                unfinished = trial.checkpoint_path.with_suffix(".part")
                unfinished.write_text(str(step + 1))
                unfinished.replace(trial.checkpoint_path)
                time.sleep(0.02)
            trial.report(validation=float(start))
    """
    folder = tmp_path_factory.mktemp("scripts")
    with Host(scripts.write(folder, "\n".join(line[8:] for line in text.splitlines())), silence=30.0) as running:
        yield running


def test_a_run_tells_its_reports_and_is_repeated_by_its_seed(tmp_path: Path) -> None:
    import random

    with Host(scripts.write(tmp_path)) as host:
        told, again = host.run(JOB), host.run(JOB)
    random.seed(7)
    x = random.gauss(0, 1) + 3
    for _ in range(40):
        x -= 0.1 * (x + random.gauss(0, 0.1))
    assert not told.error and told.tested and told.test is None and told.billed == 40
    assert [point["gradients"] for point in told.points] == [10, 20, 30, 40]
    assert told.points[-1]["validation"] == x * x + 0.01
    assert told.points == again.points
    assert told.seconds > 0 and told.gradients == 39 and told.peak_bytes > 1e6


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("raises", "ValueError: no such layer (line 6 of descent.py)"),
        ("exits", "SystemExit: 3"),
        ("dies", "it was ended by signal 6: noise dies Segmentation fault"),
    ],
)
def test_a_script_that_fails_is_quoted_in_a_line(host: Host, method: str, error: str) -> None:
    told = host.run(Job(method))
    assert told.error.startswith(error) and "\n" not in told.error
    assert not host.run(Job("fine")).error  # the host goes on


def test_a_run_is_ended_when_the_worker_says_so(host: Host) -> None:
    begin = time.monotonic()
    told = host.run(Job("sleeps"), lambda: False)
    assert told.stopped and time.monotonic() - begin < 20
    assert not host.run(Job("fine")).error


def test_a_run_without_a_sign_has_failed(tmp_path: Path) -> None:
    with Host(scripts.write(tmp_path, "import time\ntime.sleep(60)\n"), silence=0.3) as host:
        assert "neither billed nor reported for 0.3 seconds" in host.run(JOB).error


def test_a_script_may_go_on_from_its_own_checkpoint(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "state"
    job = Job("goes on", budget=40, checkpoint=str(file))
    assert host.run(job, lambda: not file.exists()).stopped
    told = host.run(job)
    assert told.billed == 40 and 0 < told.points[-1]["validation"] < 40


def test_a_trial_without_a_checkpoint_begins_in_a_folder_that_goes(tmp_path: Path) -> None:
    text = "import relaxbench\nt = relaxbench.trial()\nassert not t.checkpoint_path.exists()\nt.bill()\n"
    text += "t.checkpoint_path.write_text('1')\nraise ValueError(t.checkpoint_path)\n"
    with Host(scripts.write(tmp_path, text)) as host:
        for _ in range(2):
            file = Path(host.run(JOB).error.split()[1])
            assert file.is_absolute() and not file.parent.exists()


def test_nothing_is_left_when_the_worker_is_gone(tmp_path: Path) -> None:
    """As after `kill -9` of the worker: the host's input closes, and it ends itself and the script."""
    with Host(
        scripts.write(tmp_path, "import os, relaxbench, time\nrelaxbench.trial().bill()\ntime.sleep(60)")
    ) as host:
        seen: list[psutil.Process] = []

        def go_on() -> bool:
            assert host._process is not None
            server = psutil.Process(host._process.pid)
            seen.extend([server, *server.children()])
            assert host._process.stdin is not None
            os.close(os.dup(host._process.stdin.fileno()))
            host._process.stdin.close()
            return True

        told = host.run(JOB, lambda: bool(seen) or go_on())
        assert told.error == "the process that ran it was killed"
    assert len(seen) == 2
    psutil.wait_procs(seen, timeout=10)
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in seen)


def test_a_script_that_is_no_python_is_refused_with_its_line(tmp_path: Path) -> None:
    with Host(scripts.write(tmp_path, "x = 1\nif x\n")) as host, pytest.raises(UserError) as error:
        host.run(JOB)
    assert "cannot be run: SyntaxError: expected ':' (line 2)" in str(error.value)
