"""A table with a line per method, or the like, below the name of its problem: names may be long, and stay whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text


class GroupedTable:
    """A table of a study.

    Args:
        title: above it; "" for none.
        line: what a line is, e.g. "method".
        numbers: headings of the other columns.
    """

    def __init__(self, title: str, line: str, numbers: Sequence[str]) -> None:
        self.table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="dim")
        self.table.add_column(line, overflow="fold")
        for number in numbers:
            self.table.add_column(number, justify="right", no_wrap=True)

    def add(self, problem: str, lines: Mapping[str, Sequence[str]], whole: Sequence[str] = ()) -> None:
        """Add a problem.

        Args:
            problem: its name.
            lines: the cells of a line by its name.
            whole: the cells of all lines together; none to leave them empty.
        """
        self.table.add_row(Text(problem, style="bold"), *whole)
        for name, cells in lines.items():
            self.table.add_row(Text(f"  {name}"), *cells)
