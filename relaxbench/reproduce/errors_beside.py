"""Put what studies found beside the errors that a paper published, cell by cell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from relaxbench.analysis.comparison import Comparison
from relaxbench.analysis.findings import Findings
from relaxbench.reproduce.published_errors import PublishedError, PublishedTable

SMALL = "-small"
"""The end of the name of a problem with a small budget: it may stand in for the published one, and is named."""


@dataclass(frozen=True)
class Measured:
    """What one study found for one cell.

    Attributes:
        study, problem, method: names.
        tuned: by the study; otherwise the method ran with the authors' settings.
        level: geometric mean of the test error, in percent.
        runs: runs on fresh seeds behind it.
        budget: gradients of a run.
        comparison: with the study's baseline; None for the baseline itself.
    """

    study: str
    problem: str
    method: str
    tuned: bool
    level: float
    runs: int
    budget: int | None
    comparison: Comparison | None


@dataclass(frozen=True)
class BesideCell:
    """One cell: what was published, and what each study found.

    Attributes:
        problem, rule: of the published cell.
        published: its error.
        reference: the published error of the table's baseline on this problem.
        measured: what was found, by study, problem and method; empty if no study ran it.
    """

    problem: str
    rule: str
    published: PublishedError
    reference: PublishedError
    measured: tuple[Measured, ...]

    @property
    def published_ratio(self) -> float:
        """The published error over that of the baseline."""
        return self.published.error / self.reference.error


def row_of(problem: str, rows: Sequence[str]) -> str | None:
    """Return the row of the published table to which a problem of a study belongs; None if there is none.

    Args:
        problem: its name: the row's, that with a small budget, or a rung of a ladder of either.
        rows: the names of the rows.
    """
    base = problem.partition("@")[0].removesuffix(SMALL)
    return base if base in rows else None


def beside(table: PublishedTable, studies: Sequence[Findings]) -> list[BesideCell]:
    """Return the cells of a table row by row, each with what the studies found.

    A method belongs to the column of its rule, and a problem to the row of its name, on a ladder of its base name, or
    with a small budget. Only comparisons with the table's baseline count.
    """
    cells = []
    for problem, columns in table.rows.items():
        for rule, published in columns.items():
            measured = tuple(found for study in studies for found in _measured(study, problem, rule, table.baseline))
            cells.append(BesideCell(problem, rule, published, columns[table.baseline], measured))
    return cells


def _measured(findings: Findings, problem: str, rule: str, baseline: str) -> Iterator[Measured]:
    frames = findings.frames
    if frames.baseline is None or frames.method(frames.baseline)["rule"] != baseline:
        return
    for result in findings.results:
        if row_of(result.problem, [problem]) is None or frames.method(result.method)["rule"] != rule:
            continue
        if math.isfinite(result.level):
            compared = None if result.method == frames.baseline else result.against("baseline")
            yield Measured(
                study=frames.name,
                problem=result.problem,
                method=result.method,
                tuned=result.arm == "tuned",
                level=result.level,
                runs=result.confirmed,
                budget=result.budget,
                comparison=compared,
            )


def tables(table: PublishedTable, cells: Sequence[BesideCell]) -> Iterator[RenderableType]:
    """Yield what to print: per problem one line per published cell and per finding, then what differs."""
    yield Text.assemble((table.title, "bold"), f"\n{table.source}\n")
    for problem in table.rows:
        drawn = Table(title=problem, title_justify="left", box=None, pad_edge=False, header_style="dim")
        drawn.add_column("method")
        drawn.add_column("error", justify="right")
        drawn.add_column(f"ratio to {table.baseline}", justify="right")
        drawn.add_column("from")
        for cell in cells:
            if cell.problem == problem:
                for row in _rows(cell):
                    drawn.add_row(*row)
        yield drawn
        yield Text("")
    missing = [words for problem in table.rows if (words := _missing(problem, cells))]
    if missing:
        yield Text(
            f"Not run: {'; '.join(missing)}. `python -m relaxbench plan {table.study}` says what all cells cost, and "
            f"`python -m relaxbench study {table.study}` runs them.\n"
        )
    yield Text("How the protocols differ", style="bold")
    for sentence in table.differences:
        yield Padding(Text(f"- {sentence}"), (0, 0, 0, 2))


def _missing(problem: str, cells: Sequence[BesideCell]) -> str:
    """Name the cells of a problem that no study ran; empty if there are none."""
    own = [cell for cell in cells if cell.problem == problem]
    rules = [cell.rule for cell in own if not cell.measured]
    if not rules:
        return ""
    return f"{problem} ({'all' if len(rules) == len(own) else ', '.join(rules)})"


def _rows(cell: BesideCell) -> Iterator[tuple[Text, ...]]:
    published_ratio = "" if cell.published is cell.reference else f"{cell.published_ratio:.2f}"
    yield Text(cell.rule), Text(str(cell.published)), Text(published_ratio), Text("published", style="dim")
    for found in cell.measured:
        budget = "" if found.budget is None else f", {found.budget:,} gradients"
        small = ", a small budget" if found.problem.partition("@")[0].endswith(SMALL) else ""
        how = "tuned" if found.tuned else "as published"
        origin = f"study {found.study}, {how}, {found.runs} runs{budget}{small}"
        yield Text(""), Text(f"{found.level:.2f} %"), Text(_ratio(found.comparison)), Text(origin, style="cyan")


def _ratio(comparison: Comparison | None) -> str:
    if comparison is None or not comparison.known:
        return ""
    if not comparison.claimed:
        return f"{comparison.ratio:.2f}, no claim"
    return f"{comparison.ratio:.2f} ({comparison.low:.2f} to {comparison.high:.2f}), {comparison.verdict}"
