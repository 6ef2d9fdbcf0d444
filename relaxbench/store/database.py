"""Open a database (a SQLite file or PostgreSQL): create it when new, upgrade it when old, refuse it when newer."""

from __future__ import annotations

import atexit
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from relaxbench.errors import UserError
from relaxbench.store.connections import HELD_SECONDS, close_idle
from relaxbench.store.migrations.upgrade import Upgraded, no_study, prepare_tables
from relaxbench.store.transactions import BEGIN, READS, crowded, passing, patiently
from relaxbench.store.urls import ENCODING, advice, parse_url, reason, show_url
from relaxbench.util.pause import sleep

__all__ = ["BUSY_SECONDS", "open_database", "parse_url", "snapshot", "upgrade_database"]

BUSY_SECONDS = 60
"""How long a writer waits for another writer before it gives up."""
CONNECT_SECONDS = 10
"""How long to wait for a server's answer to a connection attempt."""
CROWDED_SECONDS = 120.0
"""How long to retry opening a server that has no free connection."""

OPTUNA_TABLE = "version_info"
"""A table of every database of Optuna."""

log = logging.getLogger("relaxbench")


def open_database(
    storage: str, *, create: bool = True, read_only: bool = False, patience: float | None = None
) -> Engine:
    """Open a storage that has, or gets, our tables.

    Tables of an older version are upgraded after a backup, and a line in the log says so.

    Args:
        storage: URL or path of a SQLite file.
        create: make the file and the tables when they are missing.
        read_only: never write (a SQLite file is opened read-only).
        patience: seconds to wait for the end of an outage, as running workers do; None to wait only for a server that
            has no free connection, because a storage that does not answer a person's command may be the wrong one.

    Raises:
        UserError: if it cannot be opened, written or understood; one line without any password.
    """
    engine, upgraded = _open(storage, create=create, read_only=read_only, patience=patience)
    if upgraded:
        log.warning("%s", upgraded)
    return engine


def upgrade_database(storage: str) -> Upgraded | None:
    """Upgrade a storage's tables after a backup; None if they already have this version.

    Raises:
        UserError: if there are none, or the upgrade fails; the database is then unchanged.
    """
    engine, upgraded = _open(storage, create=False, read_only=False)
    engine.dispose()
    return upgraded


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A connection that reads the state of one moment; no writer waits for it."""
    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.execution_options(**READS)
        else:
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        yield connection


def _open(
    storage: str, *, create: bool, read_only: bool, patience: float | None = None
) -> tuple[Engine, Upgraded | None]:
    url = parse_url(storage)
    label = show_url(url)
    if url.get_backend_name() == "sqlite":
        _check_file(Path(str(url.database)), label, create=create, write=not read_only)
        engine = _sqlite(url, read_only)
    else:
        engine = _postgresql(url, label)

    def prepared() -> Upgraded | None:
        if not read_only and engine.dialect.name == "postgresql":
            _check_encoding(engine, label)
        return prepare_tables(engine, label, create=create and not read_only, write=not read_only)

    try:
        seconds, worth = (CROWDED_SECONDS, crowded) if patience is None else (patience, passing)
        return engine, patiently(engine, prepared, seconds, worth)
    except (DBAPIError, UnicodeDecodeError) as error:  # UnicodeDecodeError: names of tables in a damaged file
        engine.dispose()
        message = reason(error, url)
        raise UserError(f"storage {label!r} cannot be used ({message}): {advice(error)}") from None
    except BaseException:
        engine.dispose()
        raise


def _postgresql(url: URL, label: str) -> Engine:
    patience = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_SECONDS}
    if ENCODING not in url.query:  # of a database in SQL_ASCII, texts would come as bytes
        url = url.update_query_dict({ENCODING: "utf8"})
    pool = {"pool_size": 2, "max_overflow": 0, "pool_recycle": HELD_SECONDS}
    try:
        return close_idle(create_engine(url, **pool, connect_args=patience))
    except ImportError:
        raise UserError(
            f"storage {label!r} needs the driver psycopg, which is not installed: pip install 'relaxbench[postgres]'"
        ) from None


def _check_encoding(engine: Engine, label: str) -> None:
    """Refuse a database that cannot hold every character: names, messages and study files may have any."""
    with engine.connect() as connection:
        encoding = connection.scalar(text("SHOW server_encoding"))
    if encoding not in ("UTF8", "SQL_ASCII"):
        raise UserError(
            f"storage {label!r} holds text in {encoding}, which lacks characters that studies contain: use a database "
            "in UTF-8, made by createdb -E UTF8 -T template0 NAME"
        )


def _check_file(path: Path, label: str, *, create: bool, write: bool) -> None:
    if path.is_dir():
        raise UserError(f"storage {label!r} is a folder: give a file in it, e.g. sqlite:///{path}/relaxbench.db")
    if not path.exists():
        if not (create and write):
            raise UserError(
                f"storage {label!r} does not exist: run python -m relaxbench study first, or check its address",
                "storage",
            )
        if not path.parent.is_dir():
            raise UserError(f"storage {label!r}: the folder {str(path.parent)!r} does not exist: create it first")
        if not os.access(path.parent, os.W_OK):
            raise UserError(
                f"storage {label!r}: the folder {str(path.parent)!r} is not writable: use another storage", "storage"
            )
        return
    if not path.is_file():
        raise UserError(f"storage {label!r} is not a regular file: choose another one")
    if not os.access(path, os.R_OK):
        raise UserError(f"storage {label!r} is not readable: check its permissions or use another storage", "storage")
    if write and not _writable(path):
        raise UserError(
            f"storage {label!r} is read-only: make the file and its folder writable or use another storage", "storage"
        )
    with path.open("rb") as file:
        head = file.read(16)
    if not head and not create:  # SQLite would accept an empty file as a database, and write into it
        raise no_study(label)
    if head and head != b"SQLite format 3\x00":
        raise UserError(f"storage {label!r} is not a SQLite database: choose another file")
    if head and write:
        _check_tables(path, label, create)


def _writable(path: Path) -> bool:
    """Whether a file may be written, with SQLite's files next to it: where a link leads to."""
    return os.access(path, os.W_OK) and os.access(Path(os.path.realpath(path)).parent, os.W_OK)


def _check_tables(path: Path, label: str, create: bool) -> None:
    """Refuse the database of another program, before it is opened for writing. Optuna's tables may be there first."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as file:
            names = {name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except (sqlite3.Error, UnicodeDecodeError):  # damaged or locked: opening it says so
        return
    others = sorted(name for name in names if not name.startswith("sqlite_"))
    if others and OPTUNA_TABLE not in names and not any(name.startswith("relaxbench_") for name in names):
        if not create:
            raise no_study(label)
        what = "table" if len(others) == 1 else "tables"
        raise UserError(
            f"storage {label!r} is the database of another program ({what} {', '.join(others[:3])}"
            f"{', …' if len(others) > 3 else ''}), and nothing was written to it: choose another file"
        )


class OpenFile(sqlite3.Connection):
    """Closes its file when it is no longer used, as an idle connection to a server is closed.

    Whoever reads a study from Python may forget its engine. Since Python 3.13, sqlite3 warns of that.
    """

    def __del__(self) -> None:
        with suppress(sqlite3.ProgrammingError):  # it could not be opened
            self.close()


_reading = WeakSet[OpenFile]()
"""Open files that are only read: whoever reads a study may leave its engine open up to the end of the program."""


@atexit.register
def _close_files() -> None:
    for file in list(_reading):
        file.close()


os.register_at_fork(after_in_child=_reading.clear)


def _sqlite(url: URL, read_only: bool) -> Engine:
    path = Path(str(url.database)).absolute()
    # SQLite reads a WAL database through files next to it, unless it may assume that nothing writes. Only a connection
    # that might write removes them at its end.
    real = Path(os.path.realpath(path))
    alone = not os.access(real.parent, os.W_OK) and not real.with_name(f"{real.name}-wal").exists()
    mode = "mode=rw" if _writable(path) else "mode=ro&immutable=1" if alone else "mode=ro"

    def connect() -> sqlite3.Connection:
        file = f"{path.as_uri()}?{mode}" if read_only else path
        opened = OpenFile(file, uri=read_only, timeout=BUSY_SECONDS, check_same_thread=False)
        if read_only:
            _reading.add(opened)
        return opened

    engine = create_engine(url, creator=connect)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # `_begin` begins transactions, not the driver
        if read_only:
            connection.execute("PRAGMA query_only=ON")
        else:
            _write_ahead(connection)
            connection.execute("PRAGMA synchronous=NORMAL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that will write takes the write lock at once. Upgrading a read lock later can fail as "locked".
        usual = "BEGIN" if read_only else "BEGIN IMMEDIATE"
        connection.exec_driver_sql(connection.get_execution_options().get(BEGIN, usual))

    return engine


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Turn on write-ahead logging: many readers and one writer. SQLite fails at once if another process does so too."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            sleep(0.01)
