"""`atlas`: many studies in one table of problems and methods."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from relaxbench.cli import checks
from relaxbench.cli.console import say
from relaxbench.cli.options import named_path
from relaxbench.util.text import counted


def atlas(
    places: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[studies]...",
            help="Databases, exports, folders of these, DATABASE#STUDY, or plans (plan --json) of studies that were "
            r"not run.  \[default: $RELAXBENCH_STORAGE, or relaxbench.db]",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", parser=named_path, metavar="PATH", help="Folder for the page and the tables.")
    ] = Path("reports"),
) -> None:
    """Put many studies into one table of problems and methods: a page, and CSV files."""
    import os

    from relaxbench.analysis.comparison import VERDICTS
    from relaxbench.atlas.atlas import Atlas
    from relaxbench.atlas.page import write_atlas
    from relaxbench.atlas.sources import gather

    checks.check_folder("--out", out)
    entries, left_out = gather(places or [os.environ.get("RELAXBENCH_STORAGE") or "relaxbench.db"])
    table = Atlas.of(entries, left_out)
    for line in left_out:
        say(f"Left out: {line}")
    counts = Counter(cell.verdict for cell in table.cells)
    said = ", ".join(f"{verdict} {counts[verdict]}" for verdict in VERDICTS if counts[verdict])
    unfinished = [entry.label for entry in table.studies if entry.missing]
    say(f"{counted(len(table.studies), 'study')}, {counted(len(table.rows), 'row')}: {said}.")
    if unfinished:
        say(f"Unfinished, shown as such: {', '.join(unfinished)}.")
    page, *_ = write_atlas(table, out)
    say(f"\nAtlas: {page}")
