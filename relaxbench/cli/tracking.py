"""`[track]`: a process next to a study that sends its runs while it goes on, and cannot delay or break it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from relaxbench.cli.log import SENT, again_command

if TYPE_CHECKING:
    from relaxbench.study.definition.spec import StudySpec
    from relaxbench.trackers.tracker import Destination

PATIENCE = 60.0
"""Seconds for which a finished study waits for what is still to be sent."""
SOON = 2.0
"""Seconds after which it is said that something is waited for."""


def destination_of(spec: StudySpec) -> Destination | None:
    """Return where a study sends its runs; None for nowhere.

    Raises:
        UserError: if the tracker's library is not installed.
    """
    from relaxbench.trackers.tracker import require

    if spec.track is None:
        return None
    require(spec.track.destination)
    return spec.track.destination


class Tracking:
    """The process that follows a study, from `start` to the end of the context.

    Args:
        destination: where the runs go; None to send nothing.
        storage: of the study.
        announce: receives lines for people.
        quiet: announce only what was not sent.
    """

    def __init__(
        self, destination: Destination | None, storage: str, announce: Callable[[str], None], quiet: bool = False
    ) -> None:
        self.destination, self.storage, self.announce, self.quiet = destination, storage, announce, quiet
        self.page: Path | None = None
        self._study = ""
        self._process: subprocess.Popen[str] | None = None
        self._output = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115

    def start(self, study: str) -> None:
        """Begin to send the runs of a study; what fails is said at the end."""
        from relaxbench.study.coordination.supervisor import SUPERVISOR

        if self.destination is None:
            return
        self._study = study
        command = [sys.executable, "-m", "relaxbench", "log", "--follow", *self.destination.options, "--", study]
        # The address of the storage may contain a password, which every user could read in a command line.
        environment = {**os.environ, "RELAXBENCH_STORAGE": self.storage, SUPERVISOR: str(os.getpid())}
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=self._output,
                stderr=self._output,
                text=True,
                env=environment | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
                start_new_session=True,  # Ctrl-C reaches the study, which then ends this process
            )
        except OSError as error:
            self.announce(f"Nothing is sent to {self.destination.to}: {error.strerror}. {self._later()}")

    def __enter__(self) -> Tracking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._output:
            if self._process is not None:
                line = self._ended(self._process)
                if not (self.quiet and line.startswith(SENT)):
                    self.announce(line)

    def _ended(self, process: subprocess.Popen[str]) -> str:
        """Wait for what is still to be sent; return what to say of it."""
        assert self.destination is not None
        text = str(self.page.absolute()) if self.page else ""
        try:
            try:
                process.communicate(text, timeout=SOON)
            except subprocess.TimeoutExpired:
                if not self.quiet:
                    self.announce(f"Sending the rest to {self.destination.to} (Ctrl-C ends it) ...")
                process.communicate(timeout=PATIENCE)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.kill()
            process.wait()
            return f"Not all was sent to {self.destination.to}. {self._later()}"
        self._output.seek(0)
        lines = [line for line in self._output.read().splitlines() if line.startswith((SENT, "relaxbench: "))]
        if not lines:
            return f"Sending to {self.destination.to} ended with code {process.returncode}. {self._later()}"
        return lines[-1].removeprefix("relaxbench: ")

    def _later(self) -> str:
        assert self.destination is not None
        return f"Send it later: {again_command(self._study, self.destination, self.storage)}"
