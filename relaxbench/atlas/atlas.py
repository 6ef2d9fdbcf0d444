"""The atlas: all entries, their cells adjusted together, the columns of the table, and the tables as frames."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import pandas as pd

from relaxbench.atlas.cells import NOT_RUN, Cell, Row
from relaxbench.atlas.discovery import discoveries, holds
from relaxbench.atlas.profiles import profiles, relative
from relaxbench.atlas.repeats import repeats
from relaxbench.atlas.sources import Entry
from relaxbench.atlas.traits import correlations, observations

Column = tuple[str, str, str]
"""A method of the table: its label, arm and space. Studies that agree in these share a column."""


SPACES = {"wide": "wide space", "custom": "own ranges"}
"""Space of a column → its words, where another column has the same title."""


@dataclass(frozen=True)
class Atlas:
    """Many studies in one table.

    Attributes:
        entries: the studies, and those that are only planned.
        cells: all of them, with p-values adjusted over the atlas.
        columns: the methods in the order of the table → title.
        left_out: one line for everything that was given and has no place here.
    """

    entries: Sequence[Entry]
    cells: Sequence[Cell]
    columns: dict[Column, str]
    left_out: Sequence[str]

    @classmethod
    def of(cls, entries: Sequence[Entry], left_out: Sequence[str] = ()) -> Atlas:
        """Put studies together."""
        run = [cell for entry in entries if entry.run for cell in entry.cells]
        named = {cell.method: cell for cell in reversed(run)}
        titles = {row.base: row.title for entry in entries if entry.run for row in entry.rows}
        planned = [
            replace(cell, title=known.title, role=known.role, arm=known.arm, space=known.space)
            if (known := named.get(cell.method))
            else cell
            for entry in entries
            if not entry.run
            for cell in entry.cells
        ]
        entries = [
            entry
            if entry.run
            else replace(entry, rows=[replace(row, title=titles.get(row.base, row.title)) for row in entry.rows])
            for entry in entries
        ]
        cells = discoveries([*run, *planned])
        columns = _columns(cells)
        return cls(entries, [_titled(cell, columns) for cell in cells], columns, left_out)

    @property
    def rows(self) -> list[Row]:
        """All rows, study by study."""
        return [row for entry in self.entries for row in entry.rows]

    @property
    def studies(self) -> list[Entry]:
        """The entries that were run."""
        return [entry for entry in self.entries if entry.run]

    def on(self, row: Row) -> dict[Column, Cell]:
        """Return the cells of a row, by column."""
        return {column_of(cell): cell for cell in self.cells if (cell.study, cell.problem) == (row.study, row.problem)}

    @property
    def tests(self) -> int:
        """The number of differences that were tested."""
        return sum(not math.isnan(cell.p) for cell in self.cells)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables behind the page, by name."""
        cells = pd.DataFrame([vars(cell) | {"holds": holds(cell)} for cell in self.cells])
        seeds = {entry.label: entry.seed for entry in self.entries}
        ran = {entry.label for entry in self.studies}
        ratios = relative(self.cells)
        return {
            "cells": cells,
            "rows": pd.DataFrame([vars(row) for row in self.rows], columns=[field.name for field in fields(Row)]),
            "studies": pd.DataFrame([_study(entry) for entry in self.entries]),
            "profiles": profiles(ratios),
            "relative": ratios,
            "traits": correlations(observations([row for row in self.rows if row.study in ran], self.cells)),
            "repeats": repeats(self.cells, seeds),
        }


def column_of(cell: Cell) -> Column:
    """Return the column of a cell."""
    return cell.method, cell.arm, cell.space


def _columns(cells: Sequence[Cell]) -> dict[Column, str]:
    """The columns: tuned methods in the order of the studies, then wide spaces and published settings."""
    titles: dict[Column, str] = {}
    for cell in cells:
        if cell.role != "baseline":
            titles.setdefault(column_of(cell), cell.title)
    titles = dict(
        sorted(titles.items(), key=lambda item: (item[0][1] != "tuned", item[0][2] not in ("default", "custom")))
    )
    return _distinct(titles)


def _distinct(titles: Mapping[Column, str]) -> dict[Column, str]:
    """Give every column a title of its own: it names the arm, and the space or the label where these tell it apart."""
    named = {
        column: f"{title}, as published" if column[1] == "published" and "published" not in title else title
        for column, title in titles.items()
    }
    for word in (lambda column: SPACES.get(column[2], ""), lambda column: column[0]):
        shared = Counter(named.values())
        named = {
            column: f"{title}, {word(column)}" if shared[title] > 1 and word(column) else title
            for column, title in named.items()
        }
    return named


def _titled(cell: Cell, columns: Mapping[Column, str]) -> Cell:
    """The cell of a method with the title of its column; the baseline has no column, and keeps its own."""
    known = columns.get(column_of(cell)) if cell.role != "baseline" else None
    return replace(cell, title=known) if known else cell


def _study(entry: Entry) -> dict[str, object]:
    return {
        "study": entry.label,
        "state": NOT_RUN if not entry.run else "unfinished" if entry.missing else "finished",
        "seed": entry.seed,
        "looks": " ".join(map(str, entry.looks)),
        "trials": entry.trials or None,
        "done": entry.done,
        "planned": entry.planned,
        "gradients": entry.gradients,
        "hours": entry.hours[0] if entry.hours else None,
        "hours_last": entry.hours[1] if entry.hours else None,
        "version": entry.version,
        "commit": entry.commit,
        "cpu": entry.cpu,
    }
