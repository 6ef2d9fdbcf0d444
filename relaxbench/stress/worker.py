"""Run a worker on a simulated study: ``python -m relaxbench.stress.worker ID``, with settings in its environment."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from relaxbench.store.claims import Claims
from relaxbench.store.database import open_database
from relaxbench.store.transactions import OUTAGE_SECONDS
from relaxbench.store.workers import arrive
from relaxbench.stress.simulated import Load, Simulation
from relaxbench.study.coordination.checkpoints import Checkpoints
from relaxbench.study.coordination.manifest import read_manifest
from relaxbench.study.coordination.plan import plans
from relaxbench.study.coordination.session import Session
from relaxbench.study.coordination.supervisor import INTERRUPTED, orphaned
from relaxbench.util.pause import sleep

FAULT = "RELAXBENCH_STRESS_FAULT"
"""The fault of this worker: ``clock``, ``disk`` or ``memory``."""
FOLDER = "RELAXBENCH_STRESS_FOLDER"
"""The folder of checkpoints."""
START = "RELAXBENCH_STRESS_START"
"""A file whose appearance starts the work, so that the start of processes is not measured."""
SKEW = 3600.0
"""Seconds by which a skewed clock is ahead: far more than a lease."""


def main(study: int) -> int:
    """Work until nothing is left; returns the exit code."""
    fault, folder = os.environ.get(FAULT, ""), Path(os.environ[FOLDER])
    stopped = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    if fault == "clock":
        true = time.time
        time.time = lambda: true() + SKEW
    if fault == "disk":
        os.fsync = _full  # type: ignore[assignment]
    database = open_database(os.environ["RELAXBENCH_STORAGE"], create=False, patience=OUTAGE_SECONDS)
    manifest = read_manifest(database, study)
    claims = Claims(database, study)
    presence = arrive(database, study, claims.worker, "cpu", {})
    start = os.environ.get(START)
    while start and not Path(start).exists() and not orphaned():
        sleep(0.01)
    checkpoints = Checkpoints(folder, manifest["key"])
    simulation = Simulation(Load(**manifest["load"]), checkpoints, folder / "memory" if fault == "memory" else None)
    Session(claims, plans(database, study), presence, simulation.train, lambda: stopped or orphaned()).work()
    database.dispose()
    return INTERRUPTED if stopped else 0


def _full(descriptor: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
