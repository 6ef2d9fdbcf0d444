"""Progress of a study: a live table in a terminal, a plain log elsewhere."""

from __future__ import annotations

import contextlib
import math
import signal
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from relaxbench.cli.live_table import table_of
from relaxbench.store.schema import PHASES
from relaxbench.store.workers import PREPARING, at_work
from relaxbench.study.coordination.progress import Progress, look_words
from relaxbench.util.text import counted, duration, listed

if TYPE_CHECKING:
    from relaxbench.study.definition.spec import StudySpec

REFRESH_SECONDS = 0.25
WORKERS = 16
"""Of more workers than these some are shown."""
LOG_SECONDS = 30.0
"""Longest time between two lines without a terminal."""
COLUMNS = 80
"""Of these lines; a longer one goes on below."""


class Display:
    """Show a list of `Progress` whenever it is updated.

    Args:
        console: to print to.
        spec: the study.
        quiet: show nothing.
    """

    def __init__(self, console: Console, spec: StudySpec, quiet: bool = False) -> None:
        self.console, self.quiet = console, quiet
        self.live = Live(console=console, auto_refresh=False) if console.is_terminal and not quiet else None
        self.start = time.monotonic()
        self.shown = self.start if self.live is None else -math.inf
        self.logged: set[tuple[str, str, str]] = set()
        self.reached: dict[tuple[str, str], str] = {}
        self.began = 0
        self.baseline = spec.baseline

    def __enter__(self) -> Display:
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()

    def say(self, line: str) -> None:
        """Print a line above the table."""
        if not self.quiet:
            self.console.print(line, markup=False)

    def update(self, progress: list[Progress], present: Sequence[Any] = ()) -> None:
        """Show the progress.

        Args:
            progress: of all methods.
            present: rows of workers to show as well; see `store.workers.workers`.
        """
        if self.quiet:
            return
        now = time.monotonic()
        finished = all(p.done >= p.total for p in progress)
        if not self.began:
            self.began = sum(p.done for p in progress) + 1
        if self.live:
            if now - self.shown >= REFRESH_SECONDS or finished:
                self.live.update(self._view(progress, present), refresh=True)
                self.shown = now
            return
        self._log(progress, present, now)

    def _log(self, progress: list[Progress], present: Sequence[Any], now: float) -> None:
        """Print one line per phase that begins, and one every `LOG_SECONDS` in between."""
        for p in progress:
            reached = (p.problem, p.method, p.words)
            if p.look > 1 and self.reached.get(reached[:2], p.words) != p.words and p.done < p.total:
                self._line(now, f"{p.problem} {p.method} goes on, {p.words}")
            self.reached[reached[:2]] = p.words  # of the first update: where an earlier session had come
            begun = [phase for phase in p.running if phase in PHASES and (*reached[:2], phase) not in self.logged]
            if begun:
                self.logged |= {(p.problem, p.method, phase) for phase in begun}
                best = "" if math.isinf(p.best) else f", best validation loss {p.best:.4g}"
                self._line(now, f"{p.problem} {p.method}: {listed(begun)}, {p.done:,} of {p.total:,} done{best}")
        done, total = sum(p.done for p in progress), sum(p.total for p in progress)
        if now - self.shown >= LOG_SECONDS and done < total:
            self._line(now, f"{done:,} of {total:,} trials; {self._state(progress, present)}; {look_words(progress)}")

    def _line(self, now: float, text: str) -> None:
        line = f"{now - self.start:5.0f} s  {text}"
        line = textwrap.fill(line, COLUMNS, subsequent_indent=" " * 9, break_on_hyphens=False)  # names stay whole
        self.console.print(line, markup=False, soft_wrap=True)
        self.shown = now

    def _view(self, progress: list[Progress], present: Sequence[Any]) -> Group:
        """Return all that is shown, no higher than the terminal: the time left is never cut off."""
        done, total = sum(p.done for p in progress), sum(p.total for p in progress)
        words = look_words(progress)
        below = [Text(f"{done:,} of {total:,} trials · {self._state(progress, present)}", style="dim")]
        below += [Text(words[0].upper() + words[1:], style="dim")] if words else []
        height = self.console.height - 1 - len(below)
        workers = workers_table(present, min(WORKERS, max(1, height // 4)))
        used = 2 + min(len(present), height // 4) + 1 if workers else 0
        return Group(*table_of(progress, self.baseline, height - used, self.console.width), *below, *workers)

    def _state(self, progress: Sequence[Progress], present: Sequence[Any]) -> str:
        """Say what is prepared, or how long the rest takes."""
        for row in present:
            if row.doing.startswith(PREPARING):
                return str(row.doing)
        for p in progress:
            if "compile" in p.running:
                return f"compiling {p.method} on {p.problem}"
        return self._left(sum(p.done for p in progress), sum(p.total for p in progress))

    def _left(self, done: int, total: int) -> str:
        spent, ran = time.monotonic() - self.start, done - self.began + 1
        if ran < 8 or spent < 2:
            return "estimating the time left"
        seconds = spent / ran * (total - done)
        return f"about {seconds:.0f} s left" if seconds < 120 else f"about {seconds / 60:.0f} min left"


def workers_table(present: Sequence[Any], shown: int = WORKERS) -> list[Any]:
    """Return a table of workers: device, current work, and when each was last seen; empty without workers."""
    if not present:
        return []
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("worker", "device", "now"):
        table.add_column(column, no_wrap=column != "now")  # shortened in a narrow terminal
    for column in ("running", "finished", "seen"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in present[:shown]:
        work, silent = Text(row.doing, no_wrap=True, overflow="ellipsis"), f"{duration(row.silent)} ago"
        numbers = (f"{row.running:,}", f"{row.finished:,}", silent if at_work(row) else f"gone, {silent}")
        table.add_row(Text(row.name.rpartition(":")[0] or row.name), Text(row.device), work, *numbers)
    more = [Text(f"and {counted(len(present) - shown, 'more worker')}", style="dim")] if len(present) > shown else []
    return [Text(), table, *more]


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C (or SIGTERM) into a flag that is read between rounds; a second one ends at once.

    Signals reach the main thread alone: in another one, such as a server's, the flag stays false.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    stopped = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        if stopped:
            raise KeyboardInterrupt
        stopped = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
