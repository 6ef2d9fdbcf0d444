"""Opening a database: SQLite in a file or PostgreSQL, created when new, refused when made by a newer version."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, insert, inspect, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from relaxbench.errors import UserError
from relaxbench.store.schema import SCHEMA_VERSION, Base, Schema
from relaxbench.store.transactions import READS

BUSY_SECONDS = 60
"""How long a writer waits for another one before it gives up."""
CREATION_LOCK = 1704_04932
"""Number of PostgreSQL's advisory lock under which the tables are made."""


def parse_url(text: str) -> URL:
    """The URL of a storage; a bare path means a SQLite file.

    Raises:
        UserError: if it cannot be read as one.
    """
    if "://" not in text:
        text = str(URL.create("sqlite", database=text))
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        shown = re.sub(r"(://[^/@]*:).*@", r"\1***@", text)
        raise UserError(
            f"storage {shown!r} is not a database URL: expected sqlite:///file.db or postgresql+psycopg://user@host/name"
        ) from None
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise UserError("storage must be a file, for a study outlives its process: use sqlite:///file.db")
    return url


def open_database(storage: str, *, create: bool = True, read_only: bool = False) -> Engine:
    """An engine for a storage, with our tables in it.

    Args:
        storage: URL or path of a SQLite file.
        create: make the file and the tables when they are missing.
        read_only: never write (SQLite: the file is opened so).

    Raises:
        UserError: if it cannot be opened, written or understood, in one line without any password.
    """
    url = parse_url(storage)
    shown = url.render_as_string(hide_password=True)
    is_file = url.get_backend_name() == "sqlite"
    if is_file:
        _check_file(Path(str(url.database)), shown, create=create, write=not read_only)
        engine = _sqlite(url, read_only)
    else:
        try:
            engine = create_engine(url, pool_pre_ping=True, pool_size=2, max_overflow=0)
        except (NoSuchModuleError, ModuleNotFoundError) as error:
            raise UserError(
                f"storage {shown!r} needs a driver that is not installed ({error}): pip install 'relaxbench[postgres]' "
                "for postgresql+psycopg://"
            ) from None
    try:
        _prepare(engine, shown, create=create and not read_only)
    except DBAPIError as error:
        engine.dispose()
        reason = next(iter(str(error.orig).strip().splitlines()), type(error).__name__)
        if url.password:
            reason = reason.replace(str(url.password), "***")
        raise UserError(
            f"storage {shown!r} cannot be used ({reason}): check the path, its permissions or the server"
        ) from None
    except UserError:
        engine.dispose()
        raise
    return engine


def _prepare(engine: Engine, shown: str, *, create: bool) -> None:
    """Make our tables if they are missing, and refuse those of a newer version."""
    with engine.connect() as connection:
        has_tables = inspect(connection).has_table(Schema.__tablename__)
        version = connection.scalar(select(Schema.version)) if has_tables else None
    if version is None:
        if not create:
            raise UserError(f"storage {shown!r} holds no relaxbench study: run python -m relaxbench study first")
        with engine.begin() as connection:
            if connection.dialect.name == "postgresql":  # two workers may come at once; SQLite has locked the file
                connection.execute(select(func.pg_advisory_xact_lock(CREATION_LOCK)))
            Base.metadata.create_all(connection)
            if connection.scalar(select(Schema.version)) is None:
                connection.execute(insert(Schema).values(version=SCHEMA_VERSION))
    elif version > SCHEMA_VERSION:
        raise UserError(
            f"storage {shown!r} was made by a newer version of relaxbench (tables {version}, this one knows "
            f"{SCHEMA_VERSION}): upgrade relaxbench or use another --storage"
        )


def _check_file(path: Path, shown: str, *, create: bool, write: bool) -> None:
    if path.is_dir():
        raise UserError(f"storage {shown!r} is a folder: give a file in it, e.g. sqlite:///{path}/relaxbench.db")
    if not path.exists():
        if not (create and write):
            raise UserError(
                f"storage {shown!r} does not exist: run python -m relaxbench study first, or check --storage"
            )
        if not path.parent.is_dir():
            raise UserError(f"storage {shown!r}: the folder {str(path.parent)!r} does not exist: create it first")
        if not os.access(path.parent, os.W_OK):
            raise UserError(
                f"storage {shown!r}: the folder {str(path.parent)!r} is not writable: use another --storage"
            )
        return
    if not path.is_file():
        raise UserError(f"storage {shown!r} is not a regular file: choose another one")
    if not os.access(path, os.R_OK):
        raise UserError(f"storage {shown!r} is not readable: check its permissions or use another --storage")
    if write and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        raise UserError(
            f"storage {shown!r} is read-only: make the file and its folder writable or use another --storage"
        )
    with path.open("rb") as file:
        head = file.read(16)
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
        reads = read_only or connection.get_execution_options().get(READS)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

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
