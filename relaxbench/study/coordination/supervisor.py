"""Worker processes on this machine: start them, restart them when they crash, and end them together.

A device on which workers fail repeatedly, without finishing a trial in between, is given up, so that one bad GPU does
not stop a study; the other devices go on. Torch is not imported here, because every worker sees its own device alone.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from relaxbench.errors import UserError
from relaxbench.store.claims import Claims, worker_name
from relaxbench.store.schema import FINISHED, Trial
from relaxbench.study.coordination.worker_log import last_words, said
from relaxbench.study.coordination.worker_process import WorkerProcess, start_process
from relaxbench.util.cores import cores
from relaxbench.util.pause import sleep
from relaxbench.util.text import counted

BREAKER = 6
"""Failures in a row after which a device is given up."""
LONGEST_PAUSE = 30.0
"""Longest pause between a crash and the next start."""
TICK = 0.2
"""Seconds between two checks of the processes."""
SUPERVISOR = "RELAXBENCH_SUPERVISOR"
"""Environment variable with the supervisor's process number; a worker ends when that process is gone."""
MISTAKE, INCOMPLETE, INTERRUPTED = 2, 3, 130
"""Exit codes of a worker: a user's mistake; nothing left but trials that were given up; stopped."""


@dataclass
class WorkerPlace:
    """A place for one worker process.

    Attributes:
        index: from 0.
        device: its name in messages: ``"cpu"``, ``"cuda:1"``.
        log: file for the output of its workers, one after another.
        process: the current worker process.
        name: the worker's name.
        begin: offset of its output in the log.
        heard: offset up to which what it says has been passed on.
        due: when to start the next worker, by the monotonic clock.
        over: whether its work is done or given up.
    """

    index: int
    device: str
    log: Path
    process: WorkerProcess | None = None
    name: str = ""
    begin: int = 0
    heard: int = 0
    due: float = 0.0
    over: bool = False


@dataclass
class Supervisor:
    """Workers on this machine.

    Args:
        claims: of the study, to free the trials of dead workers.
        places: one per worker.
        command: the command of a place's worker, and additions to its environment.
        stopping: True ends all workers at the end of their rounds.
        tick: called several times per second.
        announce: receives lines for people.
        start: starts a process from a command, its whole environment, and the file for its output.
        told: lines that people have read already; what workers say is added, and is not passed on again.
    """

    claims: Claims
    places: Sequence[WorkerPlace]
    command: Callable[[WorkerPlace], tuple[list[str], Mapping[str, str]]]
    stopping: Callable[[], bool]
    tick: Callable[[], None]
    announce: Callable[[str], None]
    start: Callable[[list[str], Mapping[str, str], Path], WorkerProcess] = start_process
    told: set[str] = field(default_factory=set)
    restarts: int = 0
    _failures: dict[str, int] = field(default_factory=dict)
    _last: WorkerPlace | None = None

    def run(self) -> None:
        """Supervise until every worker is done, given up or stopped.

        Raises:
            UserError: if a worker refuses its command, or every device has been given up.
        """
        warned = False
        try:
            while not all(place.over for place in self.places):
                if self.stopping() and not warned:
                    warned = True
                    self.announce("Stopping at the end of a round; once more, and the workers are ended at once.")
                    self._signal(signal.SIGTERM)
                for place in self.places:
                    self._attend(place)
                self.tick()
                sleep(TICK)
        finally:
            self._end()
        given_up = [device for device, count in self._failures.items() if count >= BREAKER]
        if given_up and len(given_up) == len({place.device for place in self.places}):
            assert self._last is not None
            words = last_words(self._last.log, self._last.begin)
            raise UserError(
                f"workers failed {BREAKER} times in a row on {', '.join(given_up)} without finishing a trial"
                f"{f' ({words})' if words else ''}: see {self._last.log}, fix the cause and run it again"
            )

    def _attend(self, place: WorkerPlace) -> None:
        """Check on a worker; start one where there is none."""
        if place.over:
            return
        if place.process is None:
            if self.stopping():
                place.over = True
            elif time.monotonic() >= place.due:
                self._start(place)
            return
        code = place.process.poll()
        self._listen(place)
        if code is None:
            return
        place.process = None
        if code in (0, INCOMPLETE) or self.stopping():
            place.over = True
        elif code == MISTAKE:
            words = last_words(place.log, place.begin).removeprefix("relaxbench: ")
            raise UserError(words or f"a worker refused to work without a message: see {place.log}")
        else:
            self._crashed(place, code)

    def _start(self, place: WorkerPlace) -> None:
        command, environment = self.command(place)
        place.log.parent.mkdir(parents=True, exist_ok=True)
        with place.log.open("ab") as log:
            place.begin = place.heard = log.tell()
        whole = {**os.environ, **environment, SUPERVISOR: str(os.getpid())}
        place.process = self.start(command, whole, place.log)
        place.name = ""
        with contextlib.suppress(psutil.NoSuchProcess):  # it may have ended already
            place.name = worker_name(psutil.Process(place.process.pid))

    def _crashed(self, place: WorkerPlace, code: int) -> None:
        """Free the worker's trials, and decide whether another worker takes its place."""
        self._last = place
        self.claims.reap()
        productive = self.claims.count(Trial.worker == place.name, Trial.status.in_(FINISHED)) > 0
        count = self._failures[place.device] = 1 if productive else self._failures.get(place.device, 0) + 1
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        words = last_words(place.log, place.begin)
        if count >= BREAKER:
            self.announce(f"{place.device} is given up after {counted(count, 'failure')} in a row: {words or how}")
            for other in self.places:
                if other.device == place.device:
                    other.over = True
                    if other.process is not None:
                        other.process.terminate()
            return
        self.restarts += 1
        place.due = time.monotonic() + min(LONGEST_PAUSE, 0.25 * 2 ** (count - 1))
        detail = f" ({words})" if words else ""
        self.announce(f"worker {place.index + 1} on {place.device} {how}{detail}: started again")

    def _listen(self, place: WorkerPlace) -> None:
        """Pass on what a worker says to people, and once what several say."""
        lines, place.heard = said(place.log, place.heard)
        for line in lines:
            if line not in self.told:
                self.told.add(line)
                self.announce(line)

    def _signal(self, number: signal.Signals) -> None:
        for place in self.places:
            if place.process is not None and place.process.poll() is None:
                place.process.send_signal(number)

    def _end(self) -> None:
        """Kill the remaining workers, after a mistake, a second Ctrl-C or an error. No trial's failures increase."""
        self._signal(signal.SIGKILL)
        ended = [place for place in self.places if place.process is not None]
        for place in ended:
            assert place.process is not None
            place.process.wait()
        for place in self.places:
            self._listen(place)
            if place.log.exists() and not last_words(place.log, 0):  # all that is there has been passed on
                place.log.unlink()
        if ended:
            with contextlib.suppress(UserError):  # the database is away: the leases expire
                self.claims.free([place.name for place in ended])


def worker_places(
    workers: int | None, devices: str | None, per_device: int | None, folder: Path, name: str
) -> list[WorkerPlace]:
    """Make a place for every requested worker, spread evenly over the devices.

    Args:
        workers: number in all, or None.
        devices: names separated by commas, or None for the CPU.
        per_device: number per device, or None.
        folder: of the logs.
        name: prefix of the logs' names.

    Raises:
        UserError: if the numbers do not fit together, or a name is no device.
    """
    names = []
    for part in ("cpu" if devices is None else devices).split(","):
        match = re.fullmatch(r"cpu|cuda(:(\d{1,9}))?", part.strip())
        if not match:
            raise UserError(f"{part.strip()!r} is no device: expected cpu, or cuda:0,cuda:1 and so on", "devices")
        device = "cpu" if match[0] == "cpu" else f"cuda:{int(match[2] or 0)}"
        if device in names:
            raise UserError(
                f"device {device!r} is named twice: give the number of workers per device instead",
                "devices",
                "per_device",
            )
        names.append(device)
    for setting, what, value in (("workers", "workers", workers), ("per_device", "workers per device", per_device)):
        if value is not None and not 1 <= value <= 1024:
            raise UserError(f"{value} {what}: expected 1 to 1024", setting)
    count = workers or len(names) * (per_device or 1)
    if workers and per_device and workers > len(names) * per_device:
        raise UserError(
            f"{workers} workers do not fit on {counted(len(names), 'device')} with {per_device} per device: "
            f"allow {math.ceil(workers / len(names))} per device, or name more devices",
            "workers",
            "per_device",
            "devices",
        )
    # The process number separates the logs from those of other supervisors.
    logs = [folder / f"{name}-worker-{os.getpid()}-{i + 1}.log" for i in range(count)]
    return [WorkerPlace(i, names[i % len(names)], log) for i, log in enumerate(logs)]


def worker_environment(place: WorkerPlace, workers: int) -> dict[str, str]:
    """Environment of a worker: its device alone, as the first one, and its share of the processor's cores."""
    kind, _, index = place.device.partition(":")
    visible = ""
    if kind == "cuda":
        inherited = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
        number = int(index or 0)
        visible = inherited[number] if number < len(inherited) else str(number)
    threads = str(max(1, cores() // workers))
    share = {name: os.environ.get(name, threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return {"CUDA_VISIBLE_DEVICES": visible, **share}


def supervised() -> bool:
    """Whether a supervisor started this process; it then reports for its workers."""
    return SUPERVISOR in os.environ


def orphaned() -> bool:
    """Whether this process is a worker whose supervisor is gone, so that nothing would end it."""
    if not supervised():
        return False
    number, parent = int(os.environ[SUPERVISOR]), multiprocessing.parent_process()
    if parent is not None and parent.pid == number:  # forked for the supervisor, by a process between them
        return not parent.is_alive()
    return os.getppid() != number
