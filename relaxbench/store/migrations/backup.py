"""Back up a database before an upgrade: as a file next to it, or as copies of our tables."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable
from itertools import chain, count
from pathlib import Path

from sqlalchemy import Connection, inspect, text

COPIES = "relaxbench_backup_"
"""Prefix of the names of copied tables."""
LOCK_SECONDS = 60
"""How long an upgrade of a server's tables waits for their users."""


def copy_file(file: Path, revision: str) -> Path:
    """Copy a SQLite database that nothing writes to ``<file>.before-<revision>``, with -2, -3, … if that exists.

    Raises:
        OSError: if the copy cannot be written; then there is none.
        sqlite3.Error: likewise.
    """
    first = file.with_name(f"{file.name}.before-{revision}")
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{first.name}.") as folder:
        whole = Path(folder) / first.name
        source = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
        target = sqlite3.connect(whole)
        try:
            source.backup(target)
        finally:
            source.close()
            target.close()
        make_single(whole)
        shutil.copymode(file, whole)
        return place(whole, chain([first], (first.with_name(f"{first.name}-{n}") for n in count(2))))


def copy_tables(connection: Connection, revision: str) -> str:
    """Copy our tables within the caller's transaction, and lock them until it ends.

    Returns:
        the prefix of the copies' names; the tables' names follow it.
    """
    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
    names = inspect(connection).get_table_names()
    ours = sorted(name for name in names if name.startswith("relaxbench_") and not name.startswith(COPIES))
    first = f"{COPIES}{revision}_"
    free = (first if n == 1 else f"{COPIES}{revision}_{n}_" for n in count(1))
    prefix = next(prefix for prefix in free if not any(f"{prefix}{name}" in names for name in ours))
    connection.execute(text(f"LOCK TABLE {', '.join(ours)} IN ACCESS EXCLUSIVE MODE"))
    for name in ours:
        connection.execute(text(f"CREATE TABLE {prefix}{name} AS TABLE {name}"))
    return prefix


def make_single(file: Path) -> None:
    """Put an unused SQLite database into one file, without a log next to it."""
    connection = sqlite3.connect(file)
    try:
        connection.execute("PRAGMA journal_mode=DELETE")
    finally:
        connection.close()


def place(whole: Path, names: Iterable[Path]) -> Path:
    """Move a finished file to the first free name. No other file is ever overwritten.

    Raises:
        FileExistsError: if no name is free.
    """
    for name in names:
        try:
            name.open("x").close()  # ours from here on
        except FileExistsError:
            continue
        os.replace(whole, name)
        return name
    raise FileExistsError(f"{whole.name}: no name is free")
