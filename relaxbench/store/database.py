"""Opening a database: SQLite in a file or PostgreSQL, created when new, upgraded when old, refused when newer."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from relaxbench.errors import UserError
from relaxbench.store.connections import HELD_SECONDS, close_idle
from relaxbench.store.migrations.upgrade import Upgraded, no_study, prepare
from relaxbench.store.transactions import BEGIN, READS, crowded, patiently
from relaxbench.store.urls import advice, parse_url, reason, show_url

__all__ = ["BUSY_SECONDS", "open_database", "parse_url", "snapshot", "upgrade_database"]

BUSY_SECONDS = 60
"""How long a writer waits for another one before it gives up."""
CONNECT_SECONDS = 10
"""How long a server may take to answer; one that is switched off does not answer at all."""

CROWDED_SECONDS = 120.0
"""How long one waits at the door of a server that has no connection to spare."""

log = logging.getLogger("relaxbench")


def open_database(storage: str, *, create: bool = True, read_only: bool = False) -> Engine:
    """An engine for a storage, with our tables in it.

    Tables of an older version are upgraded, after a backup, and a line in the log says so.

    Args:
        storage: URL or path of a SQLite file.
        create: make the file and the tables when they are missing.
        read_only: never write (SQLite: the file is opened so).

    Raises:
        UserError: if it cannot be opened, written or understood, in one line without any password.
    """
    engine, upgraded = _open(storage, create=create, read_only=read_only)
    if upgraded:
        log.warning("%s", upgraded)
    return engine


def upgrade_database(storage: str) -> Upgraded | None:
    """Upgrade a storage's tables, after a backup; None if they are of this version already.

    Raises:
        UserError: if there are none, or it cannot be done; the database is then as it was.
    """
    engine, upgraded = _open(storage, create=False, read_only=False)
    engine.dispose()
    return upgraded


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A connection for reading: all that it reads is of one moment, and no writer has to wait for it."""
    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.execution_options(**READS)
        else:
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        yield connection


def _open(storage: str, *, create: bool, read_only: bool) -> tuple[Engine, Upgraded | None]:
    url = parse_url(storage)
    shown = show_url(url)
    if url.get_backend_name() == "sqlite":
        _check_file(Path(str(url.database)), shown, create=create, write=not read_only)
        engine = _sqlite(url, read_only)
    else:
        engine = _postgresql(url, shown)

    def made() -> Upgraded | None:
        return prepare(engine, shown, create=create and not read_only, write=not read_only)

    try:
        return engine, patiently(engine, made, CROWDED_SECONDS, crowded)
    except (DBAPIError, UnicodeDecodeError) as error:  # the latter: names of tables in a damaged file
        engine.dispose()
        said = reason(error, url)
        raise UserError(f"storage {shown!r} cannot be used ({said}): {advice(error)}") from None
    except BaseException:
        engine.dispose()
        raise


def _postgresql(url: URL, shown: str) -> Engine:
    patience = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_SECONDS}
    pool = {"pool_size": 2, "max_overflow": 0, "pool_recycle": HELD_SECONDS}
    try:
        return close_idle(create_engine(url, **pool, connect_args=patience))
    except ImportError:
        raise UserError(
            f"storage {shown!r} needs the driver psycopg, which is not installed: pip install 'relaxbench[postgres]'"
        ) from None


def _check_file(path: Path, shown: str, *, create: bool, write: bool) -> None:
    if path.is_dir():
        raise UserError(f"storage {shown!r} is a folder: give a file in it, e.g. sqlite:///{path}/relaxbench.db")
    if not path.exists():
        if not (create and write):
            raise UserError(
                f"storage {shown!r} does not exist: run python -m relaxbench study first, or check its address",
                "storage",
            )
        if not path.parent.is_dir():
            raise UserError(f"storage {shown!r}: the folder {str(path.parent)!r} does not exist: create it first")
        if not os.access(path.parent, os.W_OK):
            raise UserError(
                f"storage {shown!r}: the folder {str(path.parent)!r} is not writable: use another storage", "storage"
            )
        return
    if not path.is_file():
        raise UserError(f"storage {shown!r} is not a regular file: choose another one")
    if not os.access(path, os.R_OK):
        raise UserError(f"storage {shown!r} is not readable: check its permissions or use another storage", "storage")
    if write and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        raise UserError(
            f"storage {shown!r} is read-only: make the file and its folder writable or use another storage", "storage"
        )
    with path.open("rb") as file:
        head = file.read(16)
    if not head and not create:  # SQLite would take it for a database, and write into it
        raise no_study(shown)
    if head and head != b"SQLite format 3\x00":
        raise UserError(f"storage {shown!r} is not a SQLite database: choose another file")


def _sqlite(url: URL, read_only: bool) -> Engine:
    path = Path(str(url.database)).absolute()
    # SQLite reads a WAL database through a file beside it, unless it is told that nobody can be writing.
    alone = not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists()
    mode = "mode=ro&immutable=1" if alone else "mode=ro"

    def connect() -> sqlite3.Connection:
        if read_only:
            return sqlite3.connect(f"{path.as_uri()}?{mode}", uri=True, timeout=BUSY_SECONDS, check_same_thread=False)
        return sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)

    engine = create_engine(url, creator=connect)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves: see below
        if not read_only:
            _write_ahead(connection)
            connection.execute("PRAGMA synchronous=NORMAL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that will write takes the write lock at once; one that upgrades later can fail as "locked".
        usual = "BEGIN" if read_only else "BEGIN IMMEDIATE"
        connection.exec_driver_sql(connection.get_execution_options().get(BEGIN, usual))

    return engine


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Readers and one writer at a time. Where two processes turn this on at once, SQLite fails without waiting."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
