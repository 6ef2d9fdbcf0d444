"""A table of a measurement, and how its numbers are written."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from rich.table import Table as Grid
from rich.text import Text

Figures = dict[str, Any]
Row = tuple[str, ...]
HEADING = 8
"""Characters of a line of a heading, so that tables of many columns fit into a terminal."""


@dataclass(frozen=True)
class Table:
    """The table of one measurement.

    Attributes:
        title: what was measured.
        columns: headings; the first column names the rows.
        rows: as text.
        reading: how to read it.
    """

    title: str
    columns: Row
    rows: tuple[Row, ...]
    reading: str

    def printed(self) -> Iterator[RenderableType]:
        """Format the table for a terminal."""
        grid = Grid(box=None, pad_edge=False, header_style="dim")
        names, *numbers = self.columns
        longest = max((len(word) for row in self.rows for word in row[0].split()), default=0)
        grid.add_column(names, min_width=longest, vertical="bottom")
        for column in numbers:
            heading = textwrap.fill(column, HEADING, break_long_words=False, break_on_hyphens=False)
            grid.add_column(heading, justify="right", no_wrap=True, vertical="bottom")
        for row in self.rows:
            grid.add_row(*map(Text, row))
        yield from (Text(f"\n{self.title}"), grid, Text(self.reading, style="dim"))


def met(row: Figures, at_least: bool = False) -> str:
    """Say whether a ratio meets its target; undecided unless its whole interval lies on one side."""
    if row.get("target") is None:
        return ""
    low, high, target = row["low"], row["high"], row["target"]
    if at_least:
        return "✓" if low >= target else "✗" if high < target else "undecided"
    return "✓" if high <= target else "✗" if low > target else "undecided"


def times(ratio: float) -> str:
    """Format a ratio: 4.62 ×."""
    return f"{ratio:.2f} ×"


def between(row: Figures) -> str:
    """Format an interval: 4.51 – 4.70; empty after a single round."""
    return "" if row["low"] == row["high"] else f"{row['low']:.2f} – {row['high']:.2f}"


def number(value: float) -> str:
    """Format a rate with about three digits: 0.051, 4.13, 41.3, 6,642."""
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3}f}"


def megabytes(size: float) -> str:
    """Format bytes as MB: 27.3."""
    return f"{size / 1e6:,.1f}"
