"""Transactions that survive an outage: repeat them with growing pauses until the database answers again."""

from __future__ import annotations

import logging
import random
import re
import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, InvalidRequestError, OperationalError

from relaxbench.errors import UserError
from relaxbench.store.urls import FULL, reason
from relaxbench.util.pause import sleep
from relaxbench.util.text import duration

T = TypeVar("T")

OUTAGE_SECONDS = 900.0
"""The work ends when the database has not answered for this long."""
COURTESY_SECONDS = 5.0
"""Timeout of messages that other workers do not depend on, e.g. that a worker leaves."""
LONGEST_PAUSE = 5.0
CROWDED_PAUSE = 0.5
"""The longest pause while a server has no free connection: other workers keep theirs only briefly."""
BEGIN = "relaxbench_begin"
"""Execution option of a connection: the statement by which SQLite begins a transaction."""
READS = {BEGIN: "BEGIN"}
"""Options of a connection that only reads, and so takes no lock."""
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL)
AWAY = ("08", "40", "53", "57P", "55P03")
"""Prefixes of PostgreSQL's codes for: connection lost, deadlock, no resources, shutting down, lock not available."""
REFUSED = ("42501", "25006")
"""PostgreSQL's codes for: insufficient privilege, read-only."""
BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
FAILING = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PROTOCOL)
"""SQLite's codes for: the disk or its file system does not do what it should."""
UNSPEAKABLE = ("22P05", "22021")
"""PostgreSQL's codes for: a character that the database's encoding lacks."""
FORBIDDEN = (sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH)
"""SQLite's codes for: insufficient rights to read or write the file."""
SQLITE_CLOCK = text("SELECT (julianday('now') - 2440587.5) * 86400.0")
POSTGRESQL_CLOCK = text("SELECT extract(epoch FROM clock_timestamp())")
CROWD = re.compile(r"too many (clients|connections)|connection slots", re.IGNORECASE)
"""The message of a server that has no free connection; libpq gives no code with it."""

UNANSWERED = "This connection is closed"
"""SQLAlchemy's message where no connection of the pool answers (`sqlalchemy.pool.base`)."""
NO_SPACE = "there is no space for the database"
"""Begins the line about a full disk."""
log = logging.getLogger("relaxbench")


def write(engine: Engine, body: Callable[[Connection], T], patience: float | None = None) -> T:
    """Run `body` in a new transaction and return its result.

    `body` runs again when the connection is lost, or the server is away, full or busy. The earlier transaction may have
    been committed, with only the answer lost, so running `body` twice must do no harm.

    Args:
        engine: the database.
        body: reads and writes through the connection.
        patience: seconds to wait for the end of an outage; None for `OUTAGE_SECONDS`.

    Raises:
        UserError: if the outage lasts longer than that.
        DBAPIError: for any other error of the database.
    """

    def attempt() -> T:
        with engine.begin() as connection:
            return body(connection)

    return patiently(engine, attempt, patience)


def read(engine: Engine, body: Callable[[Connection], T]) -> T:
    """Run `body` in one read-only snapshot, repeated as in `write`; returns its result."""

    def attempt() -> T:
        with engine.connect().execution_options(**READS) as connection:
            return body(connection)

    return patiently(engine, attempt)


def now(connection: Connection) -> float:
    """Seconds since the epoch by the database's clock; the workers' clocks may differ."""
    clock = SQLITE_CLOCK if connection.dialect.name == "sqlite" else POSTGRESQL_CLOCK
    return float(connection.scalar(clock) or 0.0)


def passing(error: DBAPIError) -> bool:
    """Whether an error may be gone at the next attempt."""
    if error.connection_invalidated:
        return True
    if isinstance(error.orig, sqlite3.OperationalError):
        return error.orig.sqlite_errorcode & 0xFF in BUSY
    code = getattr(error.orig, "sqlstate", None)
    # libpq gives no code where it could not even connect
    return isinstance(error, OperationalError) and (code is None or code.startswith(AWAY))


def curable(error: DBAPIError) -> bool:
    """Whether the user can fix an error (rights, space, the server, a damaged file); others are ours."""
    if isinstance(error.orig, sqlite3.Error):
        code = (
            getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        )  # the driver's own errors have no code
        return code in (*BUSY, *BROKEN, *FAILING, *FORBIDDEN)
    return passing(error) or getattr(error.orig, "sqlstate", None) in (*REFUSED, *UNSPEAKABLE)


def full(error: DBAPIError) -> bool:
    """Whether the database's disk is full."""
    return re.search(FULL, str(error.orig), re.IGNORECASE) is not None


def crowded(error: DBAPIError) -> bool:
    """Whether a server has no free connection now."""
    return CROWD.search(str(error.orig)) is not None


def patiently(
    engine: Engine,
    attempt: Callable[[], T],
    patience: float | None = None,
    worth: Callable[[DBAPIError], bool] = passing,
) -> T:
    """Call `attempt`, repeatedly as `write` does; returns its result. It opens its own connections to the database.

    Args:
        engine: the database.
        attempt: may be called again after an error.
        patience: seconds to wait for the end of an outage; None for `OUTAGE_SECONDS`.
        worth: whether an error is worth another attempt.

    Raises:
        UserError: if the outage lasts longer than that.
        DBAPIError: for any other error of the database.
    """
    begin, pause, warned = time.monotonic(), 0.05, False
    limit = OUTAGE_SECONDS if patience is None else patience
    while True:
        try:
            result = _connected(attempt)
        except DBAPIError as error:
            if not worth(error):
                raise
            waited, message = time.monotonic() - begin, reason(error, engine.url)
            if waited > limit:
                raise UserError(
                    f"the database has not answered for {duration(waited)} ({message}): what was finished is kept; "
                    "check the database, and run the same command again"
                ) from error
            if waited > 1 and not warned:
                warned = True
                what, todo = (NO_SPACE, " free some;") if full(error) else ("the database does not answer", "")
                log.warning(f"{what} ({message}):{todo} trying for {duration(limit)}")
            sleep(pause * random.uniform(0.5, 1.5))  # spread the returns of many workers
            pause = min(2 * pause, CROWDED_PAUSE if crowded(error) else LONGEST_PAUSE)
        else:
            if warned:
                log.warning(f"the database answers again, after {duration(time.monotonic() - begin)}")
            return result


def _connected(attempt: Callable[[], T]) -> T:
    """Call `attempt`. SQLAlchemy's error for a third connection in a row that does not answer becomes a lost one."""
    try:
        return attempt()
    except InvalidRequestError as error:
        if str(error) != UNANSWERED:
            raise
        raise OperationalError(None, None, error, connection_invalidated=True) from None
