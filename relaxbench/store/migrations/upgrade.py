"""Give a database this version's tables: create missing ones, upgrade older ones, refuse newer ones."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, func, inspect, select, text

from relaxbench.errors import UserError
from relaxbench.store.migrations import HEAD, REVISIONS, VERSION_TABLE, steps
from relaxbench.store.migrations.backup import copy_file, copy_tables
from relaxbench.store.schema import Base, Study

LOCK = 1704_04932
"""Number of PostgreSQL's advisory lock for creating and upgrading tables."""


@dataclass(frozen=True)
class Upgraded:
    """A completed upgrade.

    Attributes:
        storage: the database's URL, without a password.
        before: the version it had.
        after: the version it has.
        backup: where the old tables are kept.
    """

    storage: str
    before: str
    after: str
    backup: str

    def __str__(self) -> str:
        return (
            f"storage {self.storage!r} was upgraded (tables {self.before} → {self.after}); the old tables are kept in "
            f"{self.backup}"
        )


def prepare_tables(engine: Engine, label: str, *, create: bool, write: bool) -> Upgraded | None:
    """Give a database the tables of this version.

    Args:
        engine: the database.
        label: its URL, without a password.
        create: make the tables where there are none.
        write: upgrade those of an older version, after a backup.

    Returns:
        the upgrade, if there was one.

    Raises:
        UserError: if this is not allowed or fails; the database is then unchanged.
    """
    with engine.connect() as connection:
        _lock(connection, func.pg_advisory_xact_lock_shared)  # wait for an upgrade in progress
        names = _tables(connection)
        current = _revision(connection, names)
        if current == HEAD:
            _check_tables(names, label)
            return None
    _check(current, label, create=create, write=write)
    copy: Path | None = None
    try:
        with engine.begin() as connection:
            _lock(connection, func.pg_advisory_xact_lock)
            names = _tables(connection)
            current = _revision(connection, names)
            _check(current, label, create=create, write=write)
            if current is None:
                _make(connection, names, label)
                return None
            if current == HEAD:
                return None
            if connection.dialect.name == "sqlite":
                copy = _copy_file(engine, label, current)
                backup = repr(str(copy))
            else:
                backup = f"its tables {copy_tables(connection, current)}…"
            steps.take(connection, current)
    except BaseException:
        if copy:
            copy.unlink(missing_ok=True)  # nothing has changed, so no backup is needed
        raise
    return Upgraded(label, current, HEAD, backup)


def no_study(label: str) -> UserError:
    """An error for a database without our tables."""
    return UserError(f"storage {label!r} holds no relaxbench study: run python -m relaxbench study first")


def _tables(connection: Connection) -> set[str]:
    """The names of a database's tables."""
    return set(inspect(connection).get_table_names())


def _revision(connection: Connection, names: Collection[str]) -> str | None:
    """The version of a database's tables; None if there are none."""
    if VERSION_TABLE in names:
        current: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
        return current
    if "relaxbench_schema" in names:  # of the first version, which had no alembic
        number = connection.scalar(text("SELECT version FROM relaxbench_schema"))
        return REVISIONS[0] if number == 1 else f"{number}, by its own count"
    return None


def _lock(connection: Connection, lock: Callable[[int], Any]) -> None:
    """Let one of several workers act at a time. SQLite has locked the file, or gives a reader a snapshot."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(lock(LOCK)))


def _check(current: str | None, label: str, *, create: bool, write: bool) -> None:
    """Raise a UserError if tables of this version may not be used, created or upgraded."""
    if current is None:
        if not create:
            raise no_study(label)
    elif current not in REVISIONS:
        raise UserError(
            f"storage {label!r} was made by a newer version of relaxbench (tables {current}, this one knows {HEAD}): "
            "upgrade relaxbench or use another storage",
            "storage",
        )
    elif current != HEAD and not write:
        raise UserError(
            f"storage {label!r} was made by an older version of relaxbench (tables {current}, this one needs {HEAD}) "
            "and is only read here: upgrade it, with a backup, by python -m relaxbench upgrade",
            "storage",
        )


def _check_tables(names: Collection[str], label: str) -> None:
    """Raise a UserError if a table is missing: somebody removed it, or a copy is not complete."""
    missing = sorted(Base.metadata.tables.keys() - set(names))
    if missing:
        raise UserError(
            f"storage {label!r} lacks the table {missing[0]}: restore it from a backup or use another storage",
            "storage",
        )


def _make(connection: Connection, names: Collection[str], label: str) -> None:
    """Create all tables at the latest version."""
    if Study.__tablename__ in names:
        raise UserError(
            f"storage {label!r} holds relaxbench's tables, but not their version (table {VERSION_TABLE}): restore it "
            "from a backup or use another storage",
            "storage",
        )
    Base.metadata.create_all(connection)
    steps.stamp(connection, HEAD)


def _copy_file(engine: Engine, label: str, current: str) -> Path:
    """Back up a SQLite file."""
    file = Path(str(engine.url.database))
    try:
        return copy_file(file, current)
    except (OSError, sqlite3.Error) as error:
        raise UserError(
            f"storage {label!r} must be upgraded (tables {current} → {HEAD}), but no backup can be written next to it "
            f"({error}); nothing was changed: free some space in {str(file.absolute().parent)!r}"
        ) from None
