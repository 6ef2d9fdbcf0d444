"""Files of unfinished trials, in a folder that all workers of a study share. A file is complete or absent."""

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
        folder: of the files; created when the first one is written.
        key: of the study, from its manifest; it separates these files from those of other studies.
    """

    folder: Path
    key: str
    _failed: bool = field(default=False, repr=False)

    def save(self, trial: int, data: bytes) -> None:
        """Write a trial's checkpoint. If that fails, the previous one stays, and the trial goes on."""
        file = self.file(trial)
        part = file.with_suffix(f".{os.getpid()}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())  # a power failure leaves no empty file under the final name
            part.replace(file)
            self._failed = False
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            if not self._failed:
                self._failed = True
                log.warning(
                    f"checkpoints cannot be written to {str(self.folder)!r} ({error.strerror or error}): trials go on "
                    "without, and start again after a stop; make room there, or make it writable"
                )

    def load(self, trial: int) -> bytes | None:
        """A trial's checkpoint, or None."""
        try:
            return self.file(trial).read_bytes()
        except OSError:
            return None

    def remove(self, trial: int) -> None:
        """Delete the checkpoint of a trial that is finished, or a checkpoint that cannot be read."""
        with contextlib.suppress(OSError):
            self.file(trial).unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete all remaining files of a complete study, also those of trials that other workers finished."""
        for pattern in (f"{self.key}-*.pt", f"{self.key}-*.part"):
            for file in self.folder.glob(pattern):
                with contextlib.suppress(OSError):
                    file.unlink(missing_ok=True)
        for log_file in self.folder.glob(f"{self.key}-worker-*.log"):  # left by supervisors that were killed
            with contextlib.suppress(OSError):
                if log_file.stat().st_size == 0:
                    log_file.unlink()

    def file(self, trial: int) -> Path:
        """The path of a trial's checkpoint."""
        return self.folder / f"{self.key}-{trial}.pt"
