"""Files of unfinished trials, in a folder that all workers of a study share: complete, or not there."""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

log = logging.getLogger("relaxbench")


@dataclass
class Checkpoints:
    """The checkpoints of one study.

    Attributes:
        folder: where they lie; made when the first one is written.
        key: of the study, from its manifest; it keeps them apart from those of any other.
    """

    folder: Path
    key: str
    _failed: bool = field(default=False, repr=False)

    def save(self, trial: int, data: bytes) -> None:
        """Write a trial's checkpoint. Where that fails, the one before stays, and the trial goes on."""
        file = self.file(trial)
        part = file.with_suffix(f".{os.getpid()}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as opened:
                opened.write(data)
                opened.flush()
                os.fsync(opened.fileno())  # a machine that loses power leaves no empty file under the final name
            part.replace(file)
            self._failed = False
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            if not self._failed:
                self._failed = True
                log.warning(
                    f"checkpoints cannot be written to {str(self.folder)!r} ({error.strerror or error}): trials go on "
                    "without, and begin anew after a stop; make room there, or make it writable"
                )

    def load(self, trial: int) -> bytes | None:
        """A trial's checkpoint, or None."""
        try:
            return self.file(trial).read_bytes()
        except OSError:
            return None

    def remove(self, trial: int) -> None:
        """Forget a trial's checkpoint: it is finished, or its checkpoint is of no use."""
        with contextlib.suppress(OSError):
            self.file(trial).unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget all that is left of the study, of which nothing is missing: of trials that others have finished."""
        for pattern in (f"{self.key}-*.pt", f"{self.key}-*.part"):
            for file in self.folder.glob(pattern):
                with contextlib.suppress(OSError):
                    file.unlink(missing_ok=True)
        for log_file in self.folder.glob(f"{self.key}-worker-*.log"):  # of supervisors that were killed
            with contextlib.suppress(OSError):
                if log_file.stat().st_size == 0:
                    log_file.unlink()

    def file(self, trial: int) -> Path:
        """Where a trial's checkpoint lies."""
        return self.folder / f"{self.key}-{trial}.pt"
