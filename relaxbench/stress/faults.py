"""Cause the faults of long studies on purpose. Afterwards a study must equal an undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from relaxbench.store.claims import Claims
from relaxbench.store.schema import Trial
from relaxbench.stress.comparison import Expected, differences, outcome_of
from relaxbench.stress.disturbed_study import LOAD, DisturbedStudy
from relaxbench.stress.postgres import Server
from relaxbench.stress.simulated import Load
from relaxbench.study.coordination.checkpoints import Checkpoints
from relaxbench.study.coordination.manifest import read_manifest
from relaxbench.util.pause import sleep

KILLS = 20
OUTAGES = 2
TRUNCATIONS = 5
AWAY_SECONDS = 2.0


def kill(run: DisturbedStudy) -> None:
    """Kill a random worker (``kill -9``) in the middle of its trial, `KILLS` times."""
    if run.done < KILLS and time.monotonic() - run.last > 0.5:
        holders = set(run.running().values())
        busy = [place for place in run.places if place.process is not None and place.name in holders]
        if busy:
            victim = random.choice(busy).process
            if victim is not None:
                victim.kill()
                run.done, run.last = run.done + 1, time.monotonic()


def outage(run: DisturbedStudy) -> None:
    """Crash the server, and start it again after `AWAY_SECONDS`; `OUTAGES` times."""
    if run.server is not None and run.done < OUTAGES and run.finished() >= 20 * (run.done + 1):
        run.server.stop("immediate")
        sleep(AWAY_SECONDS)
        run.server.start()
        run.done += 1


def truncate(run: DisturbedStudy) -> None:
    """Kill a worker and cut its checkpoints off after 7 bytes, `TRUNCATIONS` times."""
    if run.done < TRUNCATIONS and time.monotonic() - run.last > 0.7:
        checkpoints = Checkpoints(run.folder, read_manifest(run.database, run.study)["key"])
        running = run.running()
        files = {trial: checkpoints.file(trial) for trial in running}
        written = [trial for trial, file in files.items() if file.exists()]
        for place in run.places:
            mine = [trial for trial in written if running[trial] == place.name]
            if mine and place.process is not None:
                place.process.kill()
                place.process.wait()
                for trial in mine:
                    if files[trial].exists():
                        files[trial].write_bytes(files[trial].read_bytes()[:7])
                run.done, run.last = run.done + 1, time.monotonic()
                return


def terminate(run: DisturbedStudy) -> None:
    """Send SIGTERM to the supervisor in the middle of the study."""
    if run.done == 0 and run.finished() >= 30:
        run.done = 1
        os.kill(os.getpid(), signal.SIGTERM)


FAULTS: dict[str, tuple[str, str, Callable[[DisturbedStudy], None]]] = {
    "kill": (f"kill -9 of a random worker, {KILLS} times", "", kill),
    "outage": (f"PostgreSQL crashes and comes back, {OUTAGES} times", "", outage),
    "truncated": (f"kill -9 and a checkpoint cut off, {TRUNCATIONS} times", "", truncate),
    "clock": ("a worker's clock is an hour ahead", "clock", lambda run: None),
    "disk": ("no space left for a worker's checkpoints", "disk", lambda run: None),
    "memory": ("out of memory in a trial", "memory", lambda run: None),
    "terminate": ("SIGTERM to the supervisor; the same again", "", terminate),
}
"""Name → its description, the fault of a worker (see `worker.FAULT`), and what disturbs the study."""


@dataclass(frozen=True)
class Survived:
    """A study after a fault.

    Attributes:
        fault: its name.
        backend: ``"SQLite"`` or ``"PostgreSQL"``.
        times: how often it struck.
        restarts: of workers.
        seconds: of the study.
        wrong: differences from an undisturbed study, one line each.
    """

    fault: str
    backend: str
    times: int
    restarts: int
    seconds: float
    wrong: list[str]


def reference(folder: Path, load: Load = LOAD) -> Expected:
    """The results and verdicts of an undisturbed study of one worker."""
    swift = replace(load, seconds=0.0, checkpoints=False)
    run = DisturbedStudy(f"sqlite:///{folder / 'reference.db'}", folder, "reference", load=swift, workers=1)
    run.run()
    outcome = outcome_of(run)
    run.database.dispose()
    return outcome


def suffer(
    fault: str, backend: str, folder: Path, server: Server | None, expected: Expected, load: Load = LOAD
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
    _, worker_fault, disturb = FAULTS[fault]
    place = folder / f"{fault}-{backend.lower()}"
    place.mkdir()
    storage = server.new_url() if backend == "PostgreSQL" and server else f"sqlite:///{place / 'study.db'}"
    run = DisturbedStudy(storage, place, fault, server, load, fault=worker_fault, disturb=disturb)
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
        wrong.append(f"{twice} trials were claimed twice, though no worker had died")
    run.database.dispose()
    return Survived(fault, backend, run.done or 1, run.restarts, seconds, wrong)
