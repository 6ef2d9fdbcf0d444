"""The log of a worker process: what it says to people, which its supervisor passes on, and its last words."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from relaxbench.store.transactions import NO_SPACE

MARK = "relaxbench says: "
"""Begins a line for people; the others are there for whoever looks for the cause of a crash."""
NAME = "relaxbench: "
"""Begins a line of the program's log. That there is no space is for people: a supervisor reads, and does not notice."""
TAIL = 10_000
"""Bytes at the end of a log among which the last words are."""
TRACEBACK = "Traceback (most recent call last):"
LONGEST = 200
"""Characters of a line that are told."""


def say(line: str) -> None:
    """Say a line to people, as a worker whose output is a log; on a full disk it is not said."""
    with suppress(OSError):
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
    told = [line.removeprefix(MARK).removeprefix(NAME) for line in lines if line.startswith((MARK, NAME + NO_SPACE))]
    return told, begin + len(whole) + len(newline)


def last_words(log: Path, begin: int) -> str:
    """Return what ended a worker, by its log after an offset: "" if it says nothing.

    That is the first line of an exception's message, as CUDA's have advice of several lines below it; without an
    exception, or after it, the last line that was not for people.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(begin, file.seek(0, os.SEEK_END) - TAIL))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    lines = [line for line in lines if not line.startswith(MARK)]
    last = lines[-1] if lines else ""
    if TRACEBACK in lines and not last.startswith(NAME):
        frames = lines[len(lines) - lines[::-1].index(TRACEBACK) :]
        last = next((line for line in frames if line and not line.startswith(" ")), last)
    return last[:LONGEST]
