"""The table of a running study, cut to the height of a terminal: what runs is shown, the rest is summed up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from relaxbench.study.coordination.progress import Progress
from relaxbench.util.text import counted

BAR = 20
"""Columns of a progress bar; the table then fits into a terminal of 80 columns."""
HEADER = 2
"""Lines of the names of the columns, in a narrow terminal."""


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


def table_of(progress: Sequence[Progress], baseline: str, room: int) -> list[Table | Text]:
    """Return the table with at most `room` lines, its header included.

    Args:
        progress: of all methods.
        baseline: the label with which the losses are compared.
        room: lines.
    """
    reference = {p.problem: p.best for p in progress if p.method == baseline}
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("method", no_wrap=True)
    table.add_column("", width=BAR)
    for column in ("trials", "best loss", "against baseline"):
        table.add_column(column, justify="right")
    table.add_column("look", no_wrap=True)
    table.add_column("now", min_width=9, no_wrap=True)
    lines, hidden = fitted(progress, room - HEADER)
    if hidden:
        lines, hidden = fitted(progress, room - HEADER - 1)
    several = any(line.whole for line in lines)
    for line in lines:
        done, total = sum(p.done for p in line.parts), sum(p.total for p in line.parts)
        bar, count = ProgressBar(total=total, completed=done, width=BAR), f"{done}/{total}"
        running = list(dict.fromkeys(phase for p in line.parts for phase in p.running))
        now = Text(", ".join(running) or ("done" if done >= total else ""), style="bold" if running else "dim")
        if line.whole:
            table.add_row(Text(line.problem, style="bold"), bar, count, "", "", "", now)
            continue
        (p,) = line.parts
        against = p.best - reference.get(p.problem, math.inf)
        known = math.isfinite(p.best)
        versus = f"{against:+.4g}" if known and math.isfinite(against) and p.method != baseline else ""
        name = f"  {p.method}" if several else p.method
        table.add_row(Text(name), bar, count, f"{p.best:.4g}" if known else "", versus, f"{p.look}/{p.looks}", now)
    return [table, *([Text(f"and {hidden}", style="dim")] if hidden else [])]
