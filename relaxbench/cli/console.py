"""The console that all commands print to, and its error stream."""

from __future__ import annotations

import io
import logging
import sys
from typing import TextIO

from rich.console import Console
from rich.table import Table

WIDEST = 10_000
"""Characters of a line that is not wrapped, at most."""

console = Console(highlight=False)


def say(line: str) -> None:
    """Print one line as it is: no markup, no colours, not wrapped, so that it can be copied."""
    console.print(line, markup=False, soft_wrap=True, highlight=False)


def say_table(table: Table) -> None:
    """Print a table: within a terminal's width, but unwrapped into a pipe or a file, so that paths stay whole."""
    wide = console if console.is_terminal else Console(width=WIDEST, highlight=False)
    wide.print(table)


def working(what: str) -> None:
    """Tell a person at a terminal what takes a while, on the error stream."""
    if sys.stderr.isatty():
        print(f"{what} ...", file=sys.stderr, flush=True)


def replace_unprintable() -> None:
    """Print "?" for characters that the encoding of the output lacks, e.g. in a pipe on Windows or under LC_ALL=C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace" if stream is sys.stdout else "backslashreplace")


class _Lines(logging.StreamHandler[TextIO]):
    """Lines on the error stream."""


def log_to_console() -> None:
    """Print warnings of the library (an outage, a full disk) as lines on the error stream: each once."""
    log = logging.getLogger("relaxbench")
    for before in [handler for handler in log.handlers if isinstance(handler, _Lines)]:
        log.removeHandler(before)  # of an earlier command in this process, whose stream may be closed
    handler = _Lines()
    handler.setFormatter(logging.Formatter("relaxbench: %(message)s"))
    log.addHandler(handler)
