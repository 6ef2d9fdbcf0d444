"""Write a study into a new SQLite file, and open such a file."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

from sqlalchemy import Engine, text

from relaxbench.errors import UserError
from relaxbench.store.database import open_database
from relaxbench.store.migrations.backup import make_single, place
from relaxbench.store.transfer import Copied, copy_study, one_line
from relaxbench.store.urls import reason


def export_study(source: Engine, file: Path, name: str) -> Copied:
    """Copy a study into a new, self-contained SQLite file.

    Raises:
        UserError: if the file exists, is a folder or cannot be written, or as `copy_study`; no file is left then.
    """
    if file.is_dir():
        raise UserError(f"file {str(file)!r} is a folder: name a file in it, e.g. {str(file / 'study.db')!r}")
    exists = UserError(f"file {str(file)!r} already exists: choose another name, or remove it first")
    if file.exists() or file.is_symlink():
        raise exists
    if not file.parent.is_dir():
        raise UserError(f"file {str(file)!r}: the folder {str(file.parent)!r} does not exist: create it first")
    try:
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as folder:
            whole = Path(folder) / "study.db"
            target = open_database(str(whole))
            try:
                copied = copy_study(source, target, name)
            finally:
                target.dispose()
            make_single(whole)
            place(whole, [file])
    except FileExistsError:
        raise exists from None
    except (OSError, sqlite3.Error) as error:
        message = getattr(error, "strerror", None) or reason(error)  # without the name of our temporary file
        raise UserError(
            f"file {str(file)!r} cannot be written ({message}): check its folder, or choose another one"
        ) from None
    return copied


def open_export(file: Path) -> Engine:
    """Open a file of `export_study`, or any SQLite database with studies, for reading.

    Raises:
        UserError: if it does not exist, is damaged, or is not such a database.
    """
    if not file.exists():
        raise UserError(f"file {str(file)!r} does not exist: give a file that python -m relaxbench export has written")
    try:
        engine = open_database(str(file), create=False, read_only=True)
    except UserError as error:
        raise UserError(f"file {str(file)!r} cannot be imported: {error}") from None
    try:
        with one_line(f"file {str(file)!r} is damaged", todo="export the study again"), engine.connect() as connection:
            verdict = connection.execute(text("PRAGMA quick_check(1)")).scalar()
            if verdict != "ok":
                raise ValueError(verdict)
    except BaseException:
        engine.dispose()
        raise
    return engine
