"""The version of a database's tables: made where there are none, upgraded where older, refused where newer."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, func, inspect, select, text

from relaxbench.errors import UserError
from relaxbench.store.migrations import HEAD, REVISIONS, VERSION_TABLE, steps
from relaxbench.store.migrations.backup import copy_file, copy_tables
from relaxbench.store.schema import Base, Study

LOCK = 1704_04932
"""Number of PostgreSQL's advisory lock under which tables are made and upgraded."""


@dataclass(frozen=True)
class Upgraded:
    """An upgrade that was done.

    Attributes:
        storage: the database's URL, without a password.
        before: the version it had.
        after: the version it has.
        backup: where the old one is kept.
    """

    storage: str
    before: str
    after: str
    backup: str

    def __str__(self) -> str:
        return (
            f"storage {self.storage!r} was upgraded (tables {self.before} → {self.after}); what it was is kept in "
            f"{self.backup}"
        )


def prepare(engine: Engine, shown: str, *, create: bool, write: bool) -> Upgraded | None:
    """See to it that a database has the tables of this version.

    Args:
        engine: the database.
        shown: its URL, without a password.
        create: make the tables where there are none.
        write: upgrade those of an older version, after a backup.

    Returns:
        the upgrade, if there was one.

    Raises:
        UserError: if that may not, or cannot, be done; the database is then as it was.
    """
    with engine.connect() as connection:
        _lock(connection, func.pg_advisory_xact_lock_shared)  # an upgrade that is under way is waited for
        found = revision(connection)
    if found == HEAD:
        return None
    _check(found, shown, create=create, write=write)
    kept: Path | None = None
    try:
        with engine.begin() as connection:
            _lock(connection, func.pg_advisory_xact_lock)
            found = revision(connection)
            _check(found, shown, create=create, write=write)
            if found is None:
                _make(connection, shown)
                return None
            if found == HEAD:
                return None
            if connection.dialect.name == "sqlite":
                kept = _copy_file(engine, shown, found)
                backup = repr(str(kept))
            else:
                backup = f"its tables {copy_tables(connection, found)}…"
            steps.take(connection, found)
    except BaseException:
        if kept:
            kept.unlink(missing_ok=True)  # of nothing that has changed
        raise
    return Upgraded(shown, found, HEAD, backup)


def no_study(shown: str) -> UserError:
    """An error for a database without our tables."""
    return UserError(f"storage {shown!r} holds no relaxbench study: run python -m relaxbench study first")


def revision(connection: Connection) -> str | None:
    """The version of the tables in a database; None where there are none."""
    there = inspect(connection)
    if there.has_table(VERSION_TABLE):
        found: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
        return found
    if there.has_table("relaxbench_schema"):  # the first version counted for itself
        number = connection.scalar(text("SELECT version FROM relaxbench_schema"))
        return REVISIONS[0] if number == 1 else f"{number}, by its own count"
    return None


def _lock(connection: Connection, lock: Callable[[int], Any]) -> None:
    """Several workers may come at once. SQLite has locked the file, or shows a reader one moment of it."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(lock(LOCK)))


def _check(found: str | None, shown: str, *, create: bool, write: bool) -> None:
    """Refuse what may not be done."""
    if found is None:
        if not create:
            raise no_study(shown)
    elif found not in REVISIONS:
        raise UserError(
            f"storage {shown!r} was made by a newer version of relaxbench (tables {found}, this one knows {HEAD}): "
            "upgrade relaxbench or use another storage",
            "storage",
        )
    elif found != HEAD and not write:
        raise UserError(
            f"storage {shown!r} was made by an older version of relaxbench (tables {found}, this one needs {HEAD}) "
            "and is only read here: upgrade it, with a backup, by python -m relaxbench upgrade",
            "storage",
        )


def _make(connection: Connection, shown: str) -> None:
    """All tables, at the latest version."""
    if inspect(connection).has_table(Study.__tablename__):
        raise UserError(
            f"storage {shown!r} holds relaxbench's tables, but not their version (table {VERSION_TABLE}): restore it "
            "from a backup or use another storage",
            "storage",
        )
    Base.metadata.create_all(connection)
    steps.stamp(connection, HEAD)


def _copy_file(engine: Engine, shown: str, found: str) -> Path:
    """The backup of a SQLite file."""
    file = Path(str(engine.url.database))
    try:
        return copy_file(file, found)
    except (OSError, sqlite3.Error) as error:
        raise UserError(
            f"storage {shown!r} must be upgraded (tables {found} → {HEAD}), but no backup can be written beside it "
            f"({error}); nothing was changed: free some space in {str(file.absolute().parent)!r}"
        ) from None
