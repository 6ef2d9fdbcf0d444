"""`copy`, `export`, `import` and `upgrade`: move studies between databases, and upgrade an older database."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relaxbench.cli import options
from relaxbench.cli.console import console
from relaxbench.cli.options import STORAGE, Storage, Study
from relaxbench.errors import UserError
from relaxbench.util.text import counted

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from relaxbench.store.transfer import Copied

NewName = Annotated[str | None, typer.Option("--name", help="Name of the copy, instead of the study's own name.")]


def copy(
    study: Annotated[str, typer.Argument(help="Name of a study.")],
    to: Annotated[
        str, typer.Option(help="Database that receives the copy, written as for --storage; created if missing.")
    ],
    storage: Storage = STORAGE,
    name: NewName = None,
) -> None:
    """Copy a study into another database, or under another name. The original stays, and may be running."""
    from relaxbench.store.database import open_database
    from relaxbench.store.transfer import check_name, copy_study, study_to_copy
    from relaxbench.store.urls import show_url

    check_name(name)  # before a database is created
    with _closing(open_database(storage, create=False, read_only=True)) as source:
        study_to_copy(source, study)  # before a database is created
        with _receiving(to, _receiver) as target:
            copied = copy_study(source, target, study, name)
            _say(f"Copied {study!r} to {show_url(target.url)!r}", study, copied)


def export(
    study: Annotated[str, typer.Argument(help="Name of a study.")],
    file: Annotated[
        Path, typer.Argument(parser=options.named_path, metavar="file", help="File to write, e.g. study.db.")
    ],
    storage: Storage = STORAGE,
) -> None:
    """Write one study to a file that can be sent, archived, or imported elsewhere."""
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
            help="File written by `export`, or another SQLite database.",
        ),
    ],
    study: Study = None,
    storage: Storage = STORAGE,
    name: NewName = None,
) -> None:
    """Copy a study from a file into the database."""
    from relaxbench.store.database import open_database
    from relaxbench.store.export import open_export
    from relaxbench.store.transfer import check_name, copy_study, study_to_copy

    check_name(name)
    with _closing(open_export(file)) as source:
        study = study_to_copy(source, study)  # before a database is created
        with _receiving(storage, open_database) as target:
            copied = copy_study(source, target, study, name)
            _say(f"Imported {study!r} from {str(file)!r}", study, copied)


def upgrade(storage: Storage = STORAGE) -> None:
    """Back up a database of an older relaxbench and upgrade it. `study` does the same automatically."""
    from relaxbench.store.database import parse_url, upgrade_database
    from relaxbench.store.migrations import HEAD
    from relaxbench.store.urls import show_url

    done = upgrade_database(storage)
    shown = show_url(parse_url(storage))
    said = str(done) if done else f"storage {shown!r} is up to date (tables {HEAD}); nothing was changed"
    console.print(f"{said[0].upper()}{said[1:]}.", markup=False, soft_wrap=True)


def _receiver(to: str) -> Engine:
    """Open the database that receives a copy; its errors name ``--to``."""
    from relaxbench.store.database import open_database

    try:
        return open_database(to)
    except UserError as error:
        raise UserError(str(error), "to") from None


@contextmanager
def _receiving(storage: str, opened: Callable[[str], Engine]) -> Iterator[Engine]:
    """Open the database that receives a copy; a file that was created for a copy that fails is removed."""
    new = _new_file(storage)
    try:
        with _closing(opened(storage)) as target:
            yield target
    except BaseException:
        if new is not None:
            for ending in ("", "-wal", "-shm", "-journal"):
                Path(f"{new}{ending}").unlink(missing_ok=True)
        raise


def _new_file(storage: str) -> Path | None:
    """Return the file that opening a storage will create; None for one that is there, and for a server."""
    from relaxbench.store.urls import parse_url

    try:
        url = parse_url(storage)
    except UserError:
        return None  # opening it says the same
    if url.get_backend_name() != "sqlite" or os.path.lexists(url.database or ""):  # a broken link is there, too
        return None
    return Path(url.database or "")


@contextmanager
def _closing(engine: Engine) -> Iterator[Engine]:
    """Close an engine at the end."""
    try:
        yield engine
    finally:
        engine.dispose()


def _say(what: str, study: str, copied: Copied) -> None:
    """Print one line on what was copied."""
    renamed = "" if copied.name == study else f" as {copied.name!r}"
    numbers = f"{counted(copied.trials, 'trial')} ({copied.done:,} done), {counted(copied.curves, 'curve')}"
    line = f"{what}{renamed}: {numbers}, weights of {counted(copied.weights, 'run')}."
    console.print(line, markup=False, soft_wrap=True)
