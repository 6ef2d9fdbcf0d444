"""What goes wrong in long studies, done on purpose; afterwards everything has to be as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
from sqlalchemy import Engine as Database
from sqlalchemy import select

from relaxbench.analysis.frames import load_study
from relaxbench.analysis.verdicts import verdicts
from relaxbench.store.claims import Claims
from relaxbench.store.database import open_database
from relaxbench.store.schema import SEARCHED, Curve, Trial
from relaxbench.store.transactions import read
from relaxbench.stress.postgres import Server
from relaxbench.stress.simulated import Load, make
from relaxbench.stress.worker import FAULT, FOLDER
from relaxbench.study.coordination.checkpoints import Checkpoints
from relaxbench.study.coordination.manifest import read_manifest
from relaxbench.study.coordination.optuna_mirror import reached
from relaxbench.study.coordination.supervisor import Slot, Supervisor

LOAD = Load(seconds=0.25, rounds=5, checkpoints=True)
WORKERS = 4
KILLS = 20
OUTAGES = 2
TRUNCATIONS = 5
AWAY_SECONDS = 2.0

Trials = dict[tuple[Any, ...], tuple[Any, ...]]


@dataclass
class Run:
    """A simulated study under way, for those who disturb it.

    Attributes:
        storage: URL of its database.
        folder: of checkpoints and logs.
        server: the PostgreSQL server, if it lies on one.
        name: of the study.
        load: of the study.
        workers: processes.
        fault: what the first worker suffers from, see `worker.FAULT`.
        disturb: called several times a second.
    """

    storage: str
    folder: Path
    name: str
    server: Server | None = None
    load: Load = LOAD
    workers: int = WORKERS
    fault: str = ""
    disturb: Callable[[Run], None] = lambda run: None
    done: int = 0
    stopping: bool = False
    restarts: int = 0
    slots: Sequence[Slot] = ()
    database: Database = field(init=False)
    study: int = field(init=False)
    last: float = field(default_factory=time.monotonic)

    def run(self) -> None:
        """From nothing to the end, or until it is stopped."""
        self.database = open_database(self.storage)
        self.study = make(self.database, self.name, self.load)
        self.go_on()

    def go_on(self) -> None:
        """Supervise workers until nothing is left."""
        self.stopping = False
        self.slots = [Slot(i, "cpu", self.folder / f"{self.name}-{i}.log") for i in range(self.workers)]
        supervisor = Supervisor(
            Claims(self.database, self.study),
            self.slots,
            self._command,
            lambda: self.stopping,
            lambda: self.disturb(self),
            _ignore,
        )
        with _terminable(self):
            supervisor.run()
        self.restarts += supervisor.restarts

    def running(self) -> dict[int, str]:
        """Trials that are being run, and by whom."""
        query = select(Trial.id, Trial.worker).where(Trial.study_id == self.study, Trial.status == "running")
        rows = read(self.database, lambda connection: connection.execute(query).all())
        return {row.id: str(row.worker) for row in rows}

    def finished(self) -> int:
        """How many trials are done."""
        return Claims(self.database, self.study).count(Trial.status == "done")

    def _command(self, slot: Slot) -> tuple[list[str], dict[str, str]]:
        line = [sys.executable, "-m", "relaxbench.stress.worker", str(self.study)]
        fault = self.fault if slot.index == 0 else ""
        return line, {"RELAXBENCH_STORAGE": self.storage, FOLDER: str(self.folder), FAULT: fault}


def kill(run: Run) -> None:
    """``kill -9`` for a random worker in the midst of its trial, twenty times."""
    if run.done < KILLS and time.monotonic() - run.last > 0.5:
        holders = set(run.running().values())
        busy = [slot for slot in run.slots if slot.process is not None and slot.name in holders]
        if busy:
            victim = random.choice(busy).process
            if victim is not None:
                victim.kill()
                run.done, run.last = run.done + 1, time.monotonic()


def outage(run: Run) -> None:
    """The server crashes, is away for two seconds, and recovers; twice."""
    if run.server is not None and run.done < OUTAGES and run.finished() >= 20 * (run.done + 1):
        run.server.stop("immediate")
        time.sleep(AWAY_SECONDS)
        run.server.start()
        run.done += 1


def truncate(run: Run) -> None:
    """Workers are killed, and what they had written of their trials is cut off after a few bytes; five times."""
    if run.done < TRUNCATIONS and time.monotonic() - run.last > 0.7:
        checkpoints = Checkpoints(run.folder, read_manifest(run.database, run.study)["key"])
        running = run.running()
        held = {trial: checkpoints.file(trial) for trial in running}
        written = [trial for trial, file in held.items() if file.exists()]
        for slot in run.slots:
            mine = [trial for trial in written if running[trial] == slot.name]
            if mine and slot.process is not None:
                slot.process.kill()
                slot.process.wait()
                for trial in mine:
                    if held[trial].exists():
                        held[trial].write_bytes(held[trial].read_bytes()[:7])
                run.done, run.last = run.done + 1, time.monotonic()
                return


def terminate(run: Run) -> None:
    """SIGTERM to the supervisor, in mid-study."""
    if run.done == 0 and run.finished() >= 30:
        run.done = 1
        os.kill(os.getpid(), signal.SIGTERM)


FAULTS: dict[str, tuple[str, str, Callable[[Run], None]]] = {
    "kill": (f"kill -9 of a random worker, {KILLS} times", "", kill),
    "outage": (f"PostgreSQL crashes and comes back, {OUTAGES} times", "", outage),
    "truncated": (f"kill -9 and a checkpoint cut off, {TRUNCATIONS} times", "", truncate),
    "clock": ("a worker's clock is an hour ahead", "clock", lambda run: None),
    "disk": ("no space left for a worker's checkpoints", "disk", lambda run: None),
    "memory": ("out of memory in a trial", "memory", lambda run: None),
    "terminate": ("SIGTERM to the supervisor; the same again", "", terminate),
}
"""Name → what it is, what a worker suffers from, and what is done to the study."""


@dataclass(frozen=True)
class Survived:
    """A study after a fault.

    Attributes:
        fault: its name.
        backend: ``"SQLite"`` or ``"PostgreSQL"``.
        times: how often it struck.
        restarts: of workers.
        seconds: of the study.
        wrong: what is not as it should be, one line each.
    """

    fault: str
    backend: str
    times: int
    restarts: int
    seconds: float
    wrong: list[str]


def reference(folder: Path, load: Load = LOAD) -> tuple[Trials, Any]:
    """The results and verdicts of an undisturbed study of one worker."""
    swift = replace(load, seconds=0.0, checkpoints=False)
    run = Run(f"sqlite:///{folder / 'reference.db'}", folder, "reference", load=swift, workers=1)
    run.run()
    found = results(run.database, run.study), _verdicts(run.storage, "reference")
    run.database.dispose()
    return found


def suffer(
    fault: str, backend: str, folder: Path, server: Server | None, expected: tuple[Trials, Any], load: Load = LOAD
) -> Survived:
    """Run a study with a fault, and compare it with an undisturbed one.

    Args:
        fault: a name of `FAULTS`.
        backend: ``"SQLite"`` or ``"PostgreSQL"``.
        folder: for the database, checkpoints and logs.
        server: for PostgreSQL.
        expected: from `reference`.
        load: of the study.
    """
    _, suffers, disturb = FAULTS[fault]
    place = folder / f"{fault}-{backend.lower()}"
    place.mkdir()
    storage = server.new_url() if backend == "PostgreSQL" and server else f"sqlite:///{place / 'study.db'}"
    run = Run(storage, place, fault, server, load, fault=suffers, disturb=disturb)
    begin = time.monotonic()
    run.run()
    if fault == "terminate":
        run.go_on()
    seconds = time.monotonic() - begin
    wrong = differences(run, expected)
    struck = {"kill": KILLS, "outage": OUTAGES, "truncated": TRUNCATIONS, "terminate": 1}.get(fault, 0)
    if run.done < struck:
        wrong.append(f"the fault struck {run.done} times, not {struck}: the study was over")
    if fault == "memory" and not (place / "memory").exists():
        wrong.append("no trial ran out of memory")
    if fault in ("clock", "disk") and (twice := Claims(run.database, run.study).count(Trial.token > 1)):
        wrong.append(f"{twice} trials were claimed twice, though nobody had died")
    run.database.dispose()
    return Survived(fault, backend, run.done or 1, run.restarts, seconds, wrong)


def differences(run: Run, expected: tuple[Trials, Any]) -> list[str]:
    """What is not as it is in an undisturbed study, one line each."""
    wrong, trials = [], results(run.database, run.study)
    if trials.keys() != expected[0].keys():
        wrong.append(f"{len(trials)} trials, expected {len(expected[0])}")
    unlike = sum(trials.get(key) != value for key, value in expected[0].items())
    if unlike:
        wrong.append(f"{unlike} trials have other results")
    if not _verdicts(run.storage, run.name).equals(expected[1]):
        wrong.append("the verdict table is another one")
    if run.running():
        wrong.append("trials are still running")
    states = _optuna(run.database)
    searched = sum(key[1] in SEARCHED for key in expected[0])
    if states != {"COMPLETE": searched}:
        wrong.append(f"Optuna has {dict(states)}, expected {searched} complete trials")
    alive = [slot for slot in run.slots if slot.process is not None and psutil.pid_exists(slot.process.pid)]
    if alive:
        wrong.append(f"{len(alive)} workers are still there")
    return wrong


def results(database: Database, study: int) -> Trials:
    """Everything that the trials gave, by what they are: never by id or time."""
    columns = (Trial.id, Trial.method, Trial.phase, Trial.block, Trial.number, Trial.parent)
    given = (Trial.seed, Trial.params, Trial.status, Trial.value, Trial.measures, Trial.ledger, Curve.data)
    query = select(*columns, *given).outerjoin(Curve, Curve.trial_id == Trial.id).where(Trial.study_id == study)
    rows = read(database, lambda connection: connection.execute(query).all())
    place = {row.id: (row.method, row.phase, row.block, row.number) for row in rows}
    return {(*place[row.id], place.get(row.parent)): tuple(map(str, row[len(columns) :])) for row in rows}


def _verdicts(storage: str, name: str) -> Any:
    return verdicts(load_study(storage, name))


def _optuna(database: Database) -> Counter[str]:
    with reached(database) as storage:
        trials = (storage.get_all_trials(study._study_id, deepcopy=False) for study in storage.get_all_studies())
        return Counter(trial.state.name for each in trials for trial in each)


@contextmanager
def _terminable(run: Run) -> Iterator[None]:
    """As the command does: SIGTERM stops the workers at the end of their rounds."""

    def stop(number: int, frame: FrameType | None) -> None:
        run.stopping = True

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _ignore(line: str) -> None:
    """Lines for people; the table says it all."""
