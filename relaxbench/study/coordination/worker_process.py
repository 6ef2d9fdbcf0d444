"""A worker's process, as its supervisor sees it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class WorkerProcess(Protocol):
    """What a supervisor asks of a worker's process: methods of `subprocess.Popen`."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""

    def wait(self) -> int | None:
        """Wait for its end."""

    def send_signal(self, sig: int, /) -> None:
        """Send a signal, unless it has ended."""

    def terminate(self) -> None:
        """Send SIGTERM."""

    def kill(self) -> None:
        """Send SIGKILL."""


def start_process(command: list[str], environment: Mapping[str, str], log: Path) -> WorkerProcess:
    """Start a worker in an interpreter of its own."""
    with log.open("ab") as output:
        # In a new session, so that Ctrl-C reaches the supervisor alone, which then stops the workers.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
