"""The table of a running study, cut to the height of a terminal: what runs is shown, the rest is summed up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from relaxbench.study.coordination.progress import Progress
from relaxbench.util.text import counted

BAR, SHORTEST_BAR = 20, 4
"""Most and least columns of a progress bar: it gives way to the names of methods, and is left out if need be."""
NOW = 20
"""Most columns of what a method is at."""
GAP = 2
"""Blank columns between two of the table."""
HEADER = 2
"""Lines of the names of the columns."""
NUMBERS = ("trials", "best\nloss", "against\nbaseline")
"""Names of the columns between the bar and the look."""


@dataclass(frozen=True)
class Line:
    """A line of the table: a method on a problem, or a problem with all its methods.

    Attributes:
        problem: its name.
        parts: the method's progress, or that of all methods.
        whole: whether it is of the problem.
    """

    problem: str
    parts: Sequence[Progress]
    whole: bool

    @property
    def done(self) -> tuple[int, int]:
        """How many of its trials are done, and of how many."""
        return sum(p.done for p in self.parts), sum(p.total for p in self.parts)


def fitted(progress: Sequence[Progress], room: int) -> tuple[list[Line], str]:
    """Choose the lines of a table: all methods if they fit, else first the problems, and the methods that run.

    Args:
        progress: of all methods, problem by problem.
        room: the most lines.

    Returns:
        the lines, and what has none, in words.
    """
    names = list(dict.fromkeys(p.problem for p in progress))
    of = {name: [p for p in progress if p.problem == name] for name in names}
    heads = list[str]()
    if len(names) > 1:  # where not even these fit, those at work come first
        busy = sorted(names, key=lambda name: not any(p.running for p in of[name]))
        heads = sorted(busy[: max(1, room)], key=names.index)
    among = [p for p in progress if p.problem in heads] if heads else progress
    ranked = sorted(among, key=lambda p: (not p.running, p.done >= p.total))  # stable: in the order of the study
    shown = {id(p) for p in ranked[: max(0, room - len(heads))]}
    lines = []
    for name in heads or names:
        lines += [Line(name, of[name], True)] if heads else []
        lines += [Line(name, [p], False) for p in of[name] if id(p) in shown]
    if heads:
        return lines, counted(len(names) - len(heads), "more problem") if len(heads) < len(names) else ""
    return lines, counted(len(progress) - len(shown), "more method") if len(shown) < len(progress) else ""


def table_of(progress: Sequence[Progress], baseline: str, room: int, width: int) -> list[Table | Text]:
    """Return the table with at most `room` lines, its header included. Names are cut before numbers.

    Args:
        progress: of all methods.
        baseline: the label with which the losses are compared.
        room: lines.
        width: columns of the terminal.
    """
    lines, hidden = fitted(progress, room - HEADER)
    if hidden:
        lines, hidden = fitted(progress, room - HEADER - 1)
    several = any(line.whole for line in lines)
    reference = {p.problem: p.best for p in progress if p.method == baseline}
    rows = [_cells(line, baseline, reference, several) for line in lines]
    widest = [max((row[place].cell_len for row in rows), default=0) for place in range(len(NUMBERS) + 3)]
    heads = [max(map(len, name.split("\n"))) for name in (*NUMBERS, "look")]
    taken = sum(map(max, heads, widest[1:-1])) + min(NOW, max(9, widest[-1])) + GAP * (len(heads) + 1)
    bar = min(BAR, width - taken - GAP - max(len("method"), widest[0]))
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("method", no_wrap=True)
    if bar >= SHORTEST_BAR:
        table.add_column("", width=bar)
    for name in NUMBERS:
        table.add_column(name, justify="right", min_width=max(map(len, name.split("\n"))), no_wrap=True)
    table.add_column("look", no_wrap=True)
    table.add_column("now", min_width=9, max_width=NOW, no_wrap=True)
    for line, (label, *others) in zip(lines, rows, strict=True):
        done, total = line.done
        bars = [ProgressBar(total=total, completed=done, width=bar)] if bar >= SHORTEST_BAR else []
        label.truncate(max(8, width - taken), overflow="ellipsis")
        table.add_row(label, *bars, *others)
    return [table, *([Text(f"and {hidden}", style="dim")] if hidden else [])]


def _cells(line: Line, baseline: str, reference: Mapping[str, float], several: bool) -> list[Text]:
    """The cells of a line: name, `NUMBERS`, look, and what it is at."""
    done, total = line.done
    running = list(dict.fromkeys(phase for p in line.parts for phase in p.running))
    count = Text(f"{done}/{total}")
    now = Text(", ".join(running) or ("done" if done >= total else ""), style="bold" if running else "dim")
    if line.whole:
        return [Text(line.problem, style="bold"), count, Text(), Text(), Text(), now]
    (p,) = line.parts
    against = p.best - reference.get(p.problem, math.inf)
    known = math.isfinite(p.best)
    versus = f"{against:+.4g}" if known and math.isfinite(against) and p.method != baseline else ""
    name = Text(f"  {p.method}" if several else p.method)
    return [name, count, Text(f"{p.best:.4g}" if known else ""), Text(versus), Text(f"{p.look}/{p.looks}"), now]
