"""The worker's side: start a host for a script, have it run a trial, and read what the trial tells."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from relaxbench.errors import UserError
from relaxbench.loop.job import GO_ON, PRUNE, STOP, Job

TICK_SECONDS = 0.2
"""Longest time between two questions whether to go on."""
START_SECONDS = 600.0
"""A host that has not imported the script's modules after this long is given up."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass
class Told:
    """What a trial of a script has told.

    Attributes:
        points: its reports, in order: gradients, validation, training, and loss if it was given.
        test: the metric on test data; None if it was not measured.
        tested: whether the script called `Trial.test`.
        diverged: whether it said so, or reported a value that is not finite.
        asked: whether the script called `Trial.should_prune`.
        pruned: whether it was told to end there.
        taken: whether the script called `relaxbench.trial`.
        left: whether it ended by `sys.exit`.
        billed: gradients in all.
        seconds: of its steps after the first one, without evaluation.
        gradients: of these steps.
        wall_seconds: of the whole run.
        peak_bytes: the most memory that its process held.
        error: why it failed, in one line; empty if it did not.
        output: the end of what it printed.
        stopped: whether it was ended because the worker had to go on without it.
    """

    points: list[dict[str, float]] = field(default_factory=list)
    test: float | None = None
    tested: bool = False
    diverged: bool = False
    asked: bool = False
    pruned: bool = False
    taken: bool = False
    left: bool = False
    billed: float = 0.0
    seconds: float = 0.0
    gradients: float = 0.0
    wall_seconds: float = 0.0
    peak_bytes: float = 0.0
    error: str = ""
    output: str = ""
    stopped: bool = False

    def take(self, message: Mapping[str, Any]) -> None:
        """Take note of a message."""
        kind = message["kind"]
        if kind == "report":
            self.points.append({key: value for key, value in message.items() if key != "kind"})
            self.billed = max(self.billed, message["gradients"])
        elif kind == "restored":
            self.points = [dict(point) for point in message["curve"]]
        elif kind == "test":
            self.tested, self.test = True, message.get("value")
        elif kind == "ask":
            self.asked = True
        elif kind == "diverged":
            self.diverged, self.billed = True, message["gradients"]
        elif kind == "error":
            self.error = message["error"]
        elif kind == "end":
            self.billed, self.seconds, self.gradients = message["billed"], message["seconds"], message["gradients"]
            self.taken, self.left = message["taken"], message["left"]
        elif kind == "exit":
            self.peak_bytes, self.output = message["peak_bytes"], message["output"]
            if message["status"] and not self.error:
                self.error = _ended(message["status"], self.output)


@dataclass
class Host:
    """A process that runs a script, one trial after another. Use it in a ``with`` statement.

    Args:
        script: path of the script.
        threads: of the CPU that a trial may use.
        silence: seconds without a sign after which a trial is ended.
    """

    script: str
    threads: int = 1
    silence: float = 600.0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _rest: bytes = field(default=b"", repr=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def run(
        self,
        job: Job,
        go_on: Callable[[], bool] = lambda: True,
        prune: Callable[[list[dict[str, float]]], bool] = lambda points: False,
    ) -> Told:
        """Run a trial.

        Args:
            job: the trial.
            go_on: asked several times per second; False ends the trial.
            prune: asked with the reports so far when the script asks; True stops the trial.

        Raises:
            UserError: if the script cannot be started.
        """
        if job.checkpoint:
            return self._run(job, go_on, prune)
        with tempfile.TemporaryDirectory(prefix="relaxbench-") as folder:  # goes also with a trial that is killed
            return self._run(replace(job, checkpoint=str(Path(folder) / "checkpoint.pt")), go_on, prune)

    def _run(self, job: Job, go_on: Callable[[], bool], prune: Callable[[list[dict[str, float]]], bool]) -> Told:
        told = Told()
        process = self._started()
        self._write(process, job.line())
        began = heard = asked = time.monotonic()
        for message in self._messages(process):
            now = time.monotonic()
            if message is not None:
                heard = now
                told.take(message)
                if message["kind"] == "exit":
                    break
                if message["kind"] == "ask" and message["waits"]:
                    told.pruned = prune(told.points)
                    self._say(process, PRUNE if told.pruned else GO_ON)
            if now - heard > self.silence and not told.error:
                told.error = (
                    f"it has neither billed nor reported for {self.silence:g} seconds: call trial.bill() after every "
                    "backward pass, or trial.left never falls; if a step takes longer, raise `silence`"
                )
                self._say(process, STOP)
            if now - asked >= TICK_SECONDS and not told.stopped:
                asked = now
                if not go_on():
                    told.stopped = True
                    self._say(process, STOP)
        else:
            self.close()
            told.error = told.error or "the process that ran it was killed"
        told.wall_seconds = time.monotonic() - began
        return told

    def close(self) -> None:
        """End the host, and the trial that it may run."""
        process, self._process, self._rest = self._process, None, b""
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        """Return the running host; start it if there is none."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        if not hasattr(os, "fork"):
            raise UserError(f"script {self.script!r} cannot be run here: studies of scripts need Linux or macOS")
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(self.threads)), "PYTHONHASHSEED": "0"}
        package = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), package]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "relaxbench.loop.host", self.script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the worker, which then ends the trial
        )
        end = time.monotonic() + START_SECONDS
        for message in self._messages(self._process):
            if message is not None and message["kind"] == "ready":
                return self._process
            if message is not None or time.monotonic() > end:
                reason = message["error"] if message else "its imports do not end"
                self.close()
                raise UserError(f"script {self.script!r} cannot be run: {reason}")
        self.close()
        raise UserError(f"script {self.script!r} cannot be run: Python ended while it imported its modules")

    def _say(self, process: subprocess.Popen[bytes], word: str) -> None:
        """Say a word to a running trial, unless the host has ended: then its messages end, too."""
        with suppress(OSError):
            self._write(process, f"{word}\n")

    def _write(self, process: subprocess.Popen[bytes], line: str) -> None:
        assert process.stdin is not None
        process.stdin.write(line.encode())
        process.stdin.flush()

    def _messages(self, process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any] | None]:
        """Yield messages as they come, and None where none came for `TICK_SECONDS`, until the host ends."""
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while True:
                line, newline, rest = self._rest.partition(b"\n")
                if newline:
                    self._rest = rest
                    yield json.loads(line)
                elif selector.select(TICK_SECONDS):
                    data = os.read(descriptor, 65536)
                    if not data:
                        return
                    self._rest += data
                else:
                    yield None


def _ended(status: int, output: str) -> str:
    """Say how a script's process ended without an exception of Python."""
    last = " ".join(" ".join(output.strip().splitlines()[-2:]).split())[-300:]
    how = f"it was ended by signal {-status}" if status < 0 else f"it ended with exit code {status}"
    return f"{how}: {last}" if last else how
