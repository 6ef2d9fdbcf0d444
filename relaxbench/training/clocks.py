"""Notice that a person's code reads the clock: what it computes then is no function of a trial's seed."""

from __future__ import annotations

import datetime as dt
import sys
import sysconfig
from pathlib import Path
from types import FrameType
from typing import Any

import torch

PACKAGES = (
    *(sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")),
    str(Path(torch.__file__).parent),
    str(Path(__file__).parent.parent),
)
"""Folders of code that may read the clock, as a log does, or what a package does whenever garbage is collected."""
READS = ("now", "utcnow", "today")
"""Methods of dates that read the clock; functions of the module `time` all do, but one."""


class Clocks:
    """Watches the calls of C functions in a block; whatever name the code has for them.

    A profiler at work has the interpreter's one place for that, and keeps it: then nothing is watched.

    Attributes:
        place: file and line of the first reading; "" if there was none.
    """

    def __init__(self) -> None:
        self.place = ""
        self._watching = False

    def __enter__(self) -> Clocks:
        self._watching = sys.getprofile() is None
        if self._watching:
            sys.setprofile(self._notice)
        return self

    def __exit__(self, *_: object) -> None:
        if self._watching:
            sys.setprofile(None)

    def _notice(self, frame: FrameType, event: str, function: Any) -> None:
        if event != "c_call" or self.place or not _reads(function):
            return
        file = frame.f_code.co_filename
        if not file.startswith(PACKAGES):
            self.place = f"{Path(file).name}, line {frame.f_lineno}"


def _reads(function: Any) -> bool:
    owner = getattr(function, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, dt.date):
        return function.__name__ in READS
    return getattr(function, "__module__", None) == "time" and function.__name__ != "sleep"
