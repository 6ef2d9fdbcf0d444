"""The commands that move studies between databases and files, and bring an older database up to date."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relaxbench.cli import options
from relaxbench.cli.console import console
from relaxbench.cli.options import STORAGE, Storage, Study
from relaxbench.util.text import counted

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from relaxbench.store.transfer import Copied

NewName = Annotated[str | None, typer.Option("--name", help="Name of the copy, instead of the study's.")]


def copy(
    study: Annotated[str, typer.Argument(help="Name of a study.")],
    to: Annotated[str, typer.Option(help="Database that receives the copy, as --storage; made if it is missing.")],
    storage: Storage = STORAGE,
    name: NewName = None,
) -> None:
    """Copy a study into another database, or under another name; the original stays, and may go on meanwhile."""
    from relaxbench.store.database import open_database
    from relaxbench.store.transfer import choose, copy_study
    from relaxbench.store.urls import show_url

    with _closing(open_database(storage, create=False, read_only=True)) as source:
        choose(source, study)  # before a database is made
        with _closing(open_database(to), source) as target:
            copied = copy_study(source, target, study, name)
            _say(f"Copied {study!r} to {show_url(target.url)!r}", study, copied)


def export(
    study: Annotated[str, typer.Argument(help="Name of a study.")],
    file: Annotated[
        Path, typer.Argument(parser=options.named_path, metavar="file", help="File to write, e.g. study.db.")
    ],
    storage: Storage = STORAGE,
) -> None:
    """Write a study into a file of its own, to be sent, kept, or imported elsewhere."""
    from relaxbench.store.database import open_database
    from relaxbench.store.export import export_study

    with _closing(open_database(storage, create=False, read_only=True)) as source:
        _say(f"Exported {study!r} to {str(file)!r}", study, export_study(source, file, study))


def import_(
    file: Annotated[
        Path,
        typer.Argument(
            parser=options.named_path,
            metavar="file",
            help="A file that `export` has written, or another SQLite database.",
        ),
    ],
    study: Study = None,
    storage: Storage = STORAGE,
    name: NewName = None,
) -> None:
    """Copy a study from a file into the database."""
    from relaxbench.store.database import open_database
    from relaxbench.store.export import open_export
    from relaxbench.store.transfer import choose, copy_study

    with _closing(open_export(file)) as source:
        study = choose(source, study)  # before a database is made
        with _closing(open_database(storage), source) as target:
            copied = copy_study(source, target, study, name)
            _say(f"Imported {study!r} from {str(file)!r}", study, copied)


def upgrade(storage: Storage = STORAGE) -> None:
    """Bring the database of an older relaxbench up to date, after a backup; `study` does the same by itself."""
    from relaxbench.store.database import parse_url, upgrade_database
    from relaxbench.store.migrations import HEAD
    from relaxbench.store.urls import show_url

    done = upgrade_database(storage)
    shown = show_url(parse_url(storage))
    said = str(done) if done else f"storage {shown!r} is up to date (tables {HEAD}); nothing was changed"
    console.print(f"{said[0].upper()}{said[1:]}.", markup=False, soft_wrap=True)


@contextmanager
def _closing(engine: Engine, reader: Engine | None = None) -> Iterator[Engine]:
    """An engine that is closed at the end, after one that only reads: that one cannot take SQLite's files away."""
    try:
        yield engine
    finally:
        if reader is not None:
            reader.dispose()
        engine.dispose()


def _say(what: str, study: str, copied: Copied) -> None:
    """One line on what was done."""
    renamed = "" if copied.name == study else f" as {copied.name!r}"
    numbers = f"{counted(copied.trials, 'trial')} ({copied.done:,} done), {counted(copied.curves, 'curve')}"
    line = f"{what}{renamed}: {numbers}, weights of {counted(copied.weights, 'run')}."
    console.print(line, markup=False, soft_wrap=True)
