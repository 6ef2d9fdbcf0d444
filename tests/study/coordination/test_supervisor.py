"""Worker processes that are watched: real ones, but tiny scripts, which crash, hang, refuse or do what they should."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import Engine, select, update

from relaxbench.errors import UserError
from relaxbench.store.claims import Claims, worker_name
from relaxbench.store.database import open_database
from relaxbench.store.schema import Trial
from relaxbench.study.coordination import supervisor as module
from relaxbench.study.coordination.supervisor import (
    BREAKER,
    Supervisor,
    WorkerPlace,
    orphaned,
    supervised,
    worker_environment,
    worker_places,
)
from tests.store.conftest import add_study

LIVES = "open('lives', 'a').write('x'); import os; life = len(open('lives').read())\n"
"""The script's number, from 1, among those that were started in this folder."""


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """A study in the folder in which everything runs; pauses are short."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "TICK", 0.02)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.05)
    engine = open_database("study.db")
    add_study(engine)
    yield engine
    engine.dispose()


class Watch:
    """A supervisor over scripts; gathers what it says, and stops when told to."""

    def __init__(self, database: Engine, *places: tuple[str, str], seconds: float = 60.0) -> None:
        self.said: list[str] = []
        self.stop = False
        self.begin, self.seconds = time.monotonic(), seconds
        made = [WorkerPlace(i, device, Path("logs") / f"{i}.log") for i, (device, _) in enumerate(places)]
        self.scripts = [script for _, script in places]
        claims = Claims(database, 1)
        self.supervisor = Supervisor(claims, made, self.command, lambda: self.stop, self.tick, self.said.append)
        self.started: dict[int, list[int]] = {}

    def command(self, place: WorkerPlace) -> tuple[list[str], Mapping[str, str]]:
        return [sys.executable, "-S", "-c", self.scripts[place.index]], {"SLOT": str(place.index)}

    def tick(self) -> None:
        assert time.monotonic() - self.begin < self.seconds, "it does not end"
        for place in self.supervisor.places:
            numbers = self.started.setdefault(place.index, [])
            if place.process is not None and place.process.pid not in numbers:
                numbers.append(place.process.pid)

    def run(self) -> None:
        try:
            self.supervisor.run()
        finally:
            running = [n for numbers in self.started.values() for n in numbers if psutil.pid_exists(n)]
            assert running == []

    @property
    def logs(self) -> list[str]:
        return sorted(path.name for path in Path("logs").glob("*"))


def trials(database: Engine, **values: Any) -> list[Any]:
    """The trials, after a change of the first one by hand."""
    with database.begin() as connection:
        if values:
            connection.execute(update(Trial).where(Trial.id == 1).values(**values))
        return list(connection.execute(select(Trial.__table__).order_by(Trial.id)))


# What becomes of workers.


def test_workers_run_side_by_side_see_their_slot_and_leave_no_trace(database: Engine) -> None:
    script = "import os; open('saw' + os.environ['SLOT'], 'w').write(os.environ['RELAXBENCH_SUPERVISOR'])"
    watch = Watch(database, ("cpu", script), ("cpu", script))
    watch.run()
    assert [Path(f"saw{i}").read_text() for i in range(2)] == [str(os.getpid())] * 2
    assert watch.said == [] and watch.supervisor.restarts == 0 and watch.logs == []


def test_a_worker_that_crashes_is_started_again_with_its_words(database: Engine) -> None:
    script = f"{LIVES}if life == 1: raise ValueError('trouble')\nif life == 2: os._exit(7)"
    watch = Watch(database, ("cpu", script))
    watch.run()
    assert watch.said == [
        "worker 1 on cpu ended with code 1 (ValueError: trouble): started again",
        "worker 1 on cpu ended with code 7: started again",  # which said nothing: not with the words of another one
    ]
    assert watch.supervisor.restarts == 2 and Path("lives").read_text() == "xxx"
    assert watch.logs == ["0.log"] and "ValueError: trouble" in Path("logs/0.log").read_text()


def test_a_worker_that_is_killed_loses_its_trials_to_others_and_is_started_again(database: Engine) -> None:
    script = f"{LIVES}import time\nif life == 1: time.sleep(60)"
    watch = Watch(database, ("cuda:3", script))
    tick = watch.tick

    def kill() -> None:
        tick()
        (place,) = watch.supervisor.places
        if Path("lives").exists() and place.process is not None and not watch.said and len(watch.started[0]) == 1:
            if trials(database)[0].status == "waiting":
                trials(database, status="running", worker=place.name, token=1, lease_until=time.time() + 999)
            place.process.send_signal(signal.SIGKILL)

    watch.supervisor.tick = kill
    watch.run()
    assert watch.said == ["worker 1 on cuda:3 was killed by SIGKILL: started again"]
    first = trials(database)[0]
    assert (first.status, first.failures, first.error) == ("waiting", 1, "its worker died")


def test_a_device_that_fails_again_and_again_is_given_up_and_the_others_go_on(database: Engine) -> None:
    bad, good = "import sys; sys.exit('CUDA error: bad')", "import time; time.sleep(1.5)"
    watch = Watch(database, ("cuda:0", good), ("cuda:1", bad))
    watch.run()
    assert len(watch.said) == BREAKER and watch.supervisor.restarts == BREAKER - 1
    assert watch.said[-1] == f"cuda:1 is given up after {BREAKER} failures in a row: CUDA error: bad"
    assert len(watch.started[0]) == 1


def test_all_workers_of_a_device_count_together_and_stop_when_it_is_given_up(database: Engine) -> None:
    bad, hangs = "import sys; sys.exit('bad')", "import time; time.sleep(60)"
    watch = Watch(database, ("cuda:1", bad), ("cuda:1", bad), ("cuda:1", hangs), ("cuda:0", "pass"), seconds=40)
    watch.run()
    assert sum("started again" in line for line in watch.said) == BREAKER - 1 and "is given up" in watch.said[-1]


def test_when_every_device_is_given_up_that_is_one_line_with_the_cause_and_the_log(database: Engine) -> None:
    watch = Watch(database, ("cpu", "pass"), ("cpu", "print('no such file'); raise SystemExit(1)"))
    with pytest.raises(
        UserError, match=r"failed 6 times in a row on cpu without finishing a trial \(no such file\)"
    ) as e:
        watch.run()
    assert "see logs/1.log, fix the cause" in str(e.value) and "\n" not in str(e.value)


def test_a_worker_that_finishes_trials_in_between_is_not_given_up(database: Engine) -> None:
    script = f"{LIVES}import time; time.sleep(0.15); os._exit(life <= 8)"
    watch = Watch(database, ("cpu", script))
    tick = watch.tick

    def finish() -> None:
        """Every third worker finishes a trial."""
        tick()
        (place,) = watch.supervisor.places
        if place.process is not None and len(watch.started[0]) % 3 == 0:
            trials(database, status="done", worker=place.name)

    watch.supervisor.tick = finish
    watch.run()
    assert watch.supervisor.restarts == 8 and Path("lives").read_text() == "x" * 9


def test_a_worker_with_nothing_left_to_do_is_not_started_again_though_trials_failed(database: Engine) -> None:
    watch = Watch(database, ("cpu", "raise SystemExit(3)"))
    watch.run()
    assert watch.said == [] and len(watch.started[0]) <= 1


def test_a_worker_s_refusal_is_passed_on_and_ends_all_at_no_cost_for_their_trials(database: Engine) -> None:
    refuses = (
        "import sys, time; time.sleep(0.3); print('relaxbench: the data have changed', file=sys.stderr); sys.exit(2)"
    )
    watch = Watch(database, ("cpu", "import time; time.sleep(60)"), ("cpu", refuses))
    tick = watch.tick

    def work() -> None:
        tick()
        place = watch.supervisor.places[0]
        if place.process is not None:
            trials(database, status="running", worker=place.name, token=1)

    watch.supervisor.tick = work
    with pytest.raises(UserError, match=r"^the data have changed$"):
        watch.run()
    first = trials(database)[0]
    assert (first.status, first.failures) == ("waiting", 0)
    silent = Watch(database, ("cpu", "raise SystemExit(2)"))
    with pytest.raises(UserError, match=r"without a message: see logs/0.log"):
        silent.run()


STOPS = """
import signal, sys, time
def stop(*_):
    open('told', 'a').write('x')
    {then}
signal.signal(signal.SIGTERM, stop)
open('ready', 'w')
time.sleep(60)
"""


def test_stopping_tells_every_worker_once_and_waits_for_it(database: Engine) -> None:
    watch = Watch(database, ("cpu", STOPS.format(then="time.sleep(0.5); sys.exit(130)")))
    tick = watch.tick

    def stop() -> None:
        tick()
        watch.stop = Path("ready").exists()

    watch.supervisor.tick = stop
    watch.run()
    assert Path("told").read_text() == "x" and watch.supervisor.restarts == 0 and watch.logs == []
    assert watch.said == ["Stopping at the end of a round; once more, and the workers are ended at once."]


def test_a_second_interrupt_ends_workers_that_do_not_listen(database: Engine) -> None:
    watch = Watch(database, ("cpu", STOPS.format(then="pass") + "time.sleep(60)"))
    tick = watch.tick

    def interrupt() -> None:
        tick()
        watch.stop = Path("ready").exists()
        if Path("told").exists():
            raise KeyboardInterrupt

    watch.supervisor.tick = interrupt
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        watch.run()
    assert time.monotonic() - begin < 30


def test_nothing_is_started_once_it_is_to_stop(database: Engine) -> None:
    watch = Watch(database, ("cpu", "open('ran', 'w')"))
    watch.stop = True
    watch.run()
    assert not Path("ran").exists() and not Path("logs").exists()


def test_a_worker_knows_whether_its_supervisor_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(module.SUPERVISOR, raising=False)
    assert not supervised() and not orphaned()
    monkeypatch.setenv(module.SUPERVISOR, str(os.getppid()))
    assert supervised() and not orphaned()
    monkeypatch.setenv(module.SUPERVISOR, str(os.getpid()))
    assert orphaned()
    # The grandchild of a process that has ended.
    child = "import time\nfrom relaxbench.study.coordination.supervisor import orphaned\n"
    child += "while not orphaned(): time.sleep(0.01)\n"
    child += f"open({str(tmp_path / 'alone')!r}, 'w')"
    parent = "import os, subprocess, sys; os.environ['RELAXBENCH_SUPERVISOR'] = str(os.getpid())\n"
    parent += f"subprocess.Popen([sys.executable, '-c', {child!r}])"
    subprocess.run([sys.executable, "-c", parent], check=True, timeout=60)
    limit = time.monotonic() + 30
    while not (tmp_path / "alone").exists() and time.monotonic() < limit:
        time.sleep(0.02)
    assert (tmp_path / "alone").exists()


# Who works where.


@pytest.mark.parametrize(
    ("workers", "devices", "per_device", "expected"),
    [
        (None, None, None, ["cpu"]),
        (3, None, None, ["cpu"] * 3),
        (None, None, 2, ["cpu"] * 2),
        (None, "cuda:0,cuda:1", None, ["cuda:0", "cuda:1"]),
        (None, "cuda:0, cuda:3 ", 2, ["cuda:0", "cuda:3"] * 2),
        (3, "cuda:0,cuda:1", None, ["cuda:0", "cuda:1", "cuda:0"]),
        (1, "cuda:0,cuda:1", None, ["cuda:0"]),
        (3, "cuda:0,cuda:1", 2, ["cuda:0", "cuda:1", "cuda:0"]),
        (4, "cuda", 4, ["cuda:0"] * 4),
        (None, "cuda:007", None, ["cuda:7"]),
        (1024, "cpu", None, ["cpu"] * 1024),
    ],
)
def test_slots_are_spread_evenly(
    workers: int | None, devices: str | None, per_device: int | None, expected: list[str]
) -> None:
    places = worker_places(workers, devices, per_device, Path("c"), "key")
    assert [place.device for place in places] == expected
    assert [place.index for place in places] == list(range(len(expected)))
    names = {place.log for place in places}
    assert len(names) == len(places) and Path(f"c/key-worker-{os.getpid()}-1.log") in names


@pytest.mark.parametrize(
    ("workers", "devices", "per_device", "words"),
    [
        (0, None, None, "0 workers: expected 1 to 1024"),
        (-1, None, None, "-1 workers: expected 1 to 1024"),
        (1025, None, None, "1025 workers: expected 1 to 1024"),
        (None, None, 0, "0 workers per device: expected 1 to 1024"),
        (None, "gpu", None, "'gpu' is no device: expected cpu, or cuda:0,cuda:1 and so on"),
        (None, "", None, "'' is no device"),
        (None, "cuda:0,", None, "'' is no device"),
        (None, "cuda:", None, "'cuda:' is no device"),
        (None, "cuda:-1", None, "'cuda:-1' is no device"),
        (None, "cuda:x", None, "'cuda:x' is no device"),
        (None, "cpu:0", None, "'cpu:0' is no device"),
        (None, "cuda:0,cuda:0", None, "'cuda:0' is named twice: give the number of workers per device"),
        (None, "cuda,cuda:0", None, "'cuda:0' is named twice"),
        (5, "cuda:0,cuda:1", 2, "5 workers do not fit on 2 devices with 2 per device: allow 3 per device, or name"),
        (2, "cpu", 1, "2 workers do not fit on 1 device with 1 per device: allow 2 per device"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(
    workers: int | None, devices: str | None, per_device: int | None, words: str
) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        worker_places(workers, devices, per_device, Path(), "key")


@pytest.mark.parametrize(
    ("device", "parent", "visible"),
    [
        ("cpu", None, ""),
        ("cpu", "0,1", ""),
        ("cuda:0", None, "0"),
        ("cuda:3", None, "3"),
        ("cuda:0", "2,3", "2"),
        ("cuda:1", "2,3", "3"),
        ("cuda:1", " 2, 3 ", "3"),
        ("cuda:1", "GPU-a1,GPU-b2", "GPU-b2"),
        ("cuda:0", "MIG-x", "MIG-x"),
    ],
)
def test_a_worker_sees_its_device_alone(
    device: str, parent: str | None, visible: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if parent is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", parent)
    assert worker_environment(WorkerPlace(0, device, Path()), 1)["CUDA_VISIBLE_DEVICES"] == visible


def test_workers_share_the_cores_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(12)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    for workers, share in ((1, "12"), (3, "4"), (5, "2"), (100, "1")):
        found = worker_environment(WorkerPlace(0, "cpu", Path()), workers)
        assert (found["OMP_NUM_THREADS"], found["MKL_NUM_THREADS"]) == (share, "7")


def test_a_process_s_name_is_the_one_it_gives_itself() -> None:
    script = "from relaxbench.store.claims import worker_name; print(worker_name())"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    name = worker_name(psutil.Process(process.pid))
    assert process.communicate(timeout=60)[0].strip() == name


def test_what_workers_say_to_people_is_passed_on_once(database: Engine) -> None:
    once = "import sys; print('relaxbench says: both say this'); print('for the log alone'); sys.stdout.flush()\n"
    mine = LIVES + "print(f'relaxbench says: life {life}', flush=True); os._exit(1 if life == 1 else 0)"
    watch = Watch(database, ("cpu", once), ("cpu", once + "print('relaxbench says: known')\n" + mine))
    watch.supervisor.told = {"known"}
    watch.run()
    assert sorted(line for line in watch.said if "started again" not in line) == ["both say this", "life 1", "life 2"]
    assert "worker 2 on cpu ended with code 1 (for the log alone): started again" in watch.said


def test_a_log_of_lines_for_people_alone_is_not_kept(database: Engine) -> None:
    watch = Watch(database, ("cpu", "print('relaxbench says: memory is short')"), ("cpu", "print('a warning')"))
    watch.run()
    assert watch.said == ["memory is short"] and [log.name for log in Path("logs").iterdir()] == ["1.log"]
