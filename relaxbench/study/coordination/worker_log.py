"""The log of a worker process: what it says to people, which its supervisor passes on, and its last words."""

from __future__ import annotations

import os
import sys
from pathlib import Path

MARK = "relaxbench says: "
"""Begins a line for people; the others are there for whoever looks for the cause of a crash."""
TAIL = 10_000
"""Bytes at the end of a log among which the last words are."""


def say(line: str) -> None:
    """Say a line to people, as a worker whose output is a log."""
    print(MARK + " ".join(line.split()), file=sys.stderr, flush=True)


def said(log: Path, begin: int) -> tuple[list[str], int]:
    """Return what was said to people in the whole lines after an offset of a log, and the offset of the next one."""
    try:
        if log.stat().st_size <= begin:
            return [], begin
        with log.open("rb") as file:
            file.seek(begin)
            whole, newline, _ = file.read().rpartition(b"\n")
    except OSError:
        return [], begin
    lines = whole.decode(errors="replace").splitlines()
    return [line.removeprefix(MARK) for line in lines if line.startswith(MARK)], begin + len(whole) + len(newline)


def last_words(log: Path, begin: int) -> str:
    """Return the last line of a log after an offset that was not for people, or ""."""
    try:
        with log.open("rb") as file:
            file.seek(max(begin, file.seek(0, os.SEEK_END) - TAIL))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return next((line[:300] for line in reversed(lines) if not line.startswith(MARK)), "")
