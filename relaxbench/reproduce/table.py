"""A reproduced table for the terminal: the paper's numbers with ours below, then every cell with its settings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from relaxbench.reproduce.curveball_toys import COLUMNS, ROWS, Cell


def tables(cells: Sequence[Cell]) -> Iterator[RenderableType]:
    """Yield what to print, for all cells row by row."""
    yield Text("Iterations until the observed loss is below 1e-4: published, and ours below", style="bold")
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    by_place = {(cell.row, cell.column): cell for cell in cells}
    for row in ROWS:
        mine = [by_place[row, column] for column in COLUMNS]
        table.add_row(Text(row, style="bold"), *(Text(_pm(*cell.published), style="dim") for cell in mine))
        table.add_row("", *(_marked(cell) for cell in mine), end_section=True)
    yield table
    yield Text(
        "✓: our mean is within the published spread of the published mean. Means are over runs that arrived.\n",
        style="dim",
    )
    for row in ROWS:
        yield Text(row, style="bold")
        for column in COLUMNS:
            cell = by_place[row, column]
            arrived = f"{len(cell.counts)} of {cell.runs} runs arrived"
            facts = "; ".join(part for part in (cell.settings, arrived, cell.comparison, cell.remark) if part)
            yield Padding(Text.assemble((f"{column}: ", "cyan"), f"{facts}."), (0, 0, 0, 2))


def _marked(cell: Cell) -> Text:
    return Text(
        f"{_pm(cell.mean, cell.spread)} {'✓' if cell.holds else '✗'}", style="green" if cell.holds else "yellow"
    )


def _pm(mean: float, spread: float) -> str:
    if math.isnan(mean):
        return "none arrived"
    if math.isnan(spread):
        return f"{mean:.0f}, one run"
    digits = 1 if mean < 100 and not float(mean).is_integer() else 0
    return f"{mean:.{digits}f} ± {spread:.{1 if spread < 10 and not float(spread).is_integer() else 0}f}"
