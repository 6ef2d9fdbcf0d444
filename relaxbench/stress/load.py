"""Measure how many trials per second many workers get through a database, and the overhead of the framework."""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Engine as Database
from sqlalchemy import func, select

from relaxbench.store.claims import Claims
from relaxbench.store.database import open_database
from relaxbench.store.schema import Trial, Worker
from relaxbench.store.transactions import now, read
from relaxbench.stress.simulated import METHODS, Load, make
from relaxbench.stress.worker import FOLDER, START
from relaxbench.study.coordination.supervisor import Supervisor, WorkerPlace
from relaxbench.util.pause import sleep


@dataclass(frozen=True)
class LoadFigures:
    """One study of simulated trials.

    Attributes:
        workers: processes.
        trials: finished by them.
        rate: trials per second, from the moment at which all workers were ready to the last result.
        overhead: share of the workers' time, from then to the last result of each, that was not spent in trials;
            None for trials that take no time.
        locked: how often "database is locked" occurred.
        stopped: number of workers that crashed.
    """

    workers: int
    trials: int
    rate: float
    overhead: float | None
    locked: int
    stopped: int


def measure_load(storage: str, folder: Path, workers: int, load: Load, name: str) -> LoadFigures:
    """Run a simulated study of random trials with many worker processes.

    Args:
        storage: URL of the database.
        folder: for logs and the start signal.
        workers: number of processes.
        load: of the study.
        name: of the study.
    """
    database = open_database(storage)
    study = make(database, name, load)
    start, claims = folder / f"{name}-start", Claims(database, study)
    places = [WorkerPlace(i, "cpu", folder / f"{name}-{i}.log") for i in range(workers)]
    began = 0.0

    def command(place: WorkerPlace) -> tuple[list[str], dict[str, str]]:
        line = [sys.executable, "-m", "relaxbench.stress.worker", str(study)]
        return line, {"RELAXBENCH_STORAGE": storage, FOLDER: str(folder), START: str(start), "OMP_NUM_THREADS": "1"}

    def tick() -> None:
        nonlocal began
        if not began and _ready(database, study) >= workers:
            sleep(1.0)  # the last worker to arrive is still starting
            began = read(database, now)
            start.touch()

    messages: list[str] = []
    Supervisor(claims, places, command, lambda: False, tick, messages.append).run()
    finished = _finished(database, study)
    database.dispose()
    ends = [time for times in finished.values() for time in times]
    spent = sum(max(times) - began for times in finished.values())
    busy = load.seconds * len(ends)
    logs = [place.log.read_text(errors="replace") for place in places if place.log.exists()]
    return LoadFigures(
        workers,
        len(ends),
        len(ends) / (max(ends) - began),
        1 - busy / spent if load.seconds else None,
        sum(log.count("database is locked") for log in logs),
        len(messages),
    )


def sized(load: Load, workers: int, seconds: float, most: int) -> Load:
    """Scale a load to about as many random trials as the workers finish in some seconds without overhead."""
    count = min(most, int(workers * seconds / load.seconds)) if load.seconds else most
    per_method = max(1, 3 * count // (4 * len(METHODS)))  # a third of them is confirmed
    return replace(load, looks=(1,), trials=per_method, exploit=0, recommend=0, mirrored=False)


def _ready(database: Database, study: int) -> int:
    query = select(func.count()).select_from(Worker).where(Worker.study_id == study)
    return read(database, lambda connection: connection.scalar(query)) or 0


def _finished(database: Database, study: int) -> dict[str, list[float]]:
    """The times at which each worker finished its trials."""
    query = select(Trial.worker, Trial.finished_at).where(Trial.study_id == study, Trial.status == "done")
    times: dict[str, list[float]] = defaultdict(list)
    for worker, finished in read(database, lambda connection: connection.execute(query).all()):
        times[str(worker)].append(float(finished or 0))
    return times
