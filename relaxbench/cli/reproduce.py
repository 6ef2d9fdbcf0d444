"""`reproduce`: published tables, measured again or beside what studies found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relaxbench.cli.console import console
from relaxbench.cli.options import STORAGE, Storage, reader
from relaxbench.errors import UserError, unknown

if TYPE_CHECKING:
    from relaxbench.analysis.findings import Findings

MOST_RUNS = 10_000
TOYS, SCIENCE, HAND_OVER = "curveball-toys", "science", "hand-over"
NOW = {TOYS: 100, SCIENCE: 3, HAND_OVER: 3}
"""Tables that are measured when they are asked for, with their usual numbers of runs."""


def reproduce(
    table: Annotated[
        str, typer.Argument(help="Name of the table: deep-relaxation, curveball, curveball-toys, science or hand-over.")
    ],
    studies: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[study]...", help=r"Studies for the table.  \[default: all that fit]", show_default=False
        ),
    ] = None,
    storage: Storage = STORAGE,
    runs: Annotated[
        int | None,
        typer.Option(
            help=r"Runs per cell of a table that is measured now.  \[default: 100 for curveball-toys, else 3]"
        ),
    ] = None,
) -> None:
    """Print a published table with ours beside it.

    curveball-toys, science and hand-over are measured now, the others are read from studies.
    """
    if table in NOW:
        if studies:
            raise UserError(f"{table} is measured now, not read from a study: leave {studies[0]!r} out")
        runs = NOW[table] if runs is None else runs
        if not 2 <= runs <= MOST_RUNS:
            raise UserError(f"--runs {runs}: expected at least 2, {NOW[table]} as usual, and at most {MOST_RUNS:,}")
        {TOYS: measure_toys, SCIENCE: measure_science, HAND_OVER: measure_hand_over}[table](runs)
        return
    from relaxbench.reproduce.errors_beside import beside, tables
    from relaxbench.reproduce.published_errors import TABLES

    if table not in TABLES:
        raise unknown("table", table, [*TABLES, *NOW])
    if runs is not None:
        raise UserError(f"--runs {runs}: {table} is read from studies, and measures nothing now: leave --runs out")
    published = TABLES[table]
    for part in tables(published, beside(published, _findings(storage, studies or [], list(published.rows)))):
        console.print(part)


def measure_toys(runs: int) -> None:
    """Measure the CurveBall paper's table of small problems, and print it with the settings of every cell.

    Raises:
        typer.Exit: with code 1, if CurveBall or SGD does not meet its published spread.
    """
    from relaxbench.reproduce.curveball_toys import ROWS, curveball_toys
    from relaxbench.reproduce.table import tables

    cells = []
    with console.status("Counting iterations") as status:
        for cell in curveball_toys(runs):
            cells.append(cell)
            status.update(f"{cell.row}, {cell.column}: {cell.mean:.1f}")
    for part in tables(cells):
        console.print(part)
    if not all(cell.holds for cell in cells if cell.row in (ROWS[0], ROWS[-1])):
        raise typer.Exit(1)


def measure_science(runs: int) -> None:
    """Train methods on scientific problems, each with one setting, and print their errors beside published ones."""
    from relaxbench.reproduce.science import measure, sentence

    with console.status("Training"):
        for own in measure(runs):
            console.print(sentence(own))


def measure_hand_over(runs: int) -> None:
    """Count the sweeps of Gauss–Seidel from solutions of networks."""
    from rich.table import Table

    from relaxbench.reproduce.hand_over import SIDE, WITHIN, hand_over

    shown = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("start", "relative errors", "sweeps"):
        shown.add_column(name, justify="left" if name == "start" else "right")
    with console.status("Training") as status:
        for own in hand_over(runs):
            errors, sweeps = (", ".join(texts) for texts in ([f"{e:.2g}" for e in own.errors], map(str, own.sweeps)))
            shown.add_row(own.start, errors, sweeps)
            status.update(f"{own.start}: {sweeps}")
    console.print(f"Sweeps of Gauss–Seidel on {SIDE}² nodes to a relative error of {WITHIN:g}", style="bold")
    console.print(shown)


def _findings(storage: str, names: list[str], rows: list[str]) -> list[Findings]:
    """Return the findings of the studies of these names; of all that have a row of the table, without names."""
    from relaxbench.analysis.findings import Findings
    from relaxbench.analysis.frames import load_study
    from relaxbench.reproduce.errors_beside import row_of
    from relaxbench.store.studies import study_problems

    if not names and storage == STORAGE and not _is_there(storage):
        return []  # nothing was run yet: the published figures alone
    database = reader(storage)
    problems = study_problems(database)
    for name in names:
        if name not in problems:
            raise unknown("study", name, problems)
        if not any(row_of(problem, rows) for problem in problems[name]):
            raise UserError(
                f"study {name!r} has none of the table's problems ({', '.join(rows)}, or these with -small): "
                "name another study"
            )
    fitting = names or [name for name, own in problems.items() if any(row_of(problem, rows) for problem in own)]
    return [Findings.of(load_study(database, name)) for name in fitting]


def _is_there(storage: str) -> bool:
    """Whether the file of the default database exists."""
    return Path(storage.removeprefix("sqlite:///")).is_file()
