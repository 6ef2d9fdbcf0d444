"""A simulated study that runs while something disturbs it."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from sqlalchemy import Engine as Database
from sqlalchemy import select

from relaxbench.store.claims import Claims
from relaxbench.store.database import open_database
from relaxbench.store.schema import Trial
from relaxbench.store.transactions import read
from relaxbench.stress.postgres import Server
from relaxbench.stress.simulated import Load, make
from relaxbench.stress.worker import FAULT, FOLDER
from relaxbench.study.coordination.supervisor import Supervisor, WorkerPlace

LOAD = Load(seconds=0.25, rounds=5, checkpoints=True)
WORKERS = 4


@dataclass
class DisturbedStudy:
    """A running simulated study.

    Attributes:
        storage: URL of its database.
        folder: of checkpoints and logs.
        name: of the study.
        server: the PostgreSQL server that holds it, if any.
        load: of the study.
        workers: processes.
        fault: the fault of the first worker, see `worker.FAULT`.
        disturb: called several times per second.
        done: how often the disturbance struck.
        stopping: ends the workers at the end of their rounds.
        restarts: of workers.
        places: of the workers.
        last: when the disturbance struck last, by the monotonic clock.
    """

    storage: str
    folder: Path
    name: str
    server: Server | None = None
    load: Load = LOAD
    workers: int = WORKERS
    fault: str = ""
    disturb: Callable[[DisturbedStudy], None] = lambda run: None
    done: int = 0
    stopping: bool = False
    restarts: int = 0
    places: Sequence[WorkerPlace] = ()
    database: Database = field(init=False)
    study: int = field(init=False)
    last: float = field(default_factory=time.monotonic)

    def run(self) -> None:
        """Make the study, and work on it until it is complete or stopped."""
        self.database = open_database(self.storage)
        self.study = make(self.database, self.name, self.load)
        self.go_on()

    def go_on(self) -> None:
        """Supervise workers until nothing is left."""
        self.stopping = False
        self.places = [WorkerPlace(i, "cpu", self.folder / f"{self.name}-{i}.log") for i in range(self.workers)]
        supervisor = Supervisor(
            Claims(self.database, self.study),
            self.places,
            self._command,
            lambda: self.stopping,
            lambda: self.disturb(self),
            _ignore,
        )
        with _terminable(self):
            supervisor.run()
        self.restarts += supervisor.restarts

    def running(self) -> dict[int, str]:
        """The running trials, and the worker of each."""
        query = select(Trial.id, Trial.worker).where(Trial.study_id == self.study, Trial.status == "running")
        rows = read(self.database, lambda connection: connection.execute(query).all())
        return {row.id: str(row.worker) for row in rows}

    def finished(self) -> int:
        """Count the trials that are done."""
        return Claims(self.database, self.study).count(Trial.status == "done")

    def _command(self, place: WorkerPlace) -> tuple[list[str], dict[str, str]]:
        line = [sys.executable, "-m", "relaxbench.stress.worker", str(self.study)]
        fault = self.fault if place.index == 0 else ""
        return line, {"RELAXBENCH_STORAGE": self.storage, FOLDER: str(self.folder), FAULT: fault}


@contextmanager
def _terminable(run: DisturbedStudy) -> Iterator[None]:
    """Let SIGTERM stop the workers at the end of their rounds, as the command does."""

    def stop(number: int, frame: FrameType | None) -> None:
        run.stopping = True

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _ignore(line: str) -> None:
    """Drop the supervisor's messages, because the table of results contains them."""
