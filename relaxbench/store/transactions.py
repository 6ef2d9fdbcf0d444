"""Transactions that outlive an outage: repeated with growing pauses until the database answers again."""

from __future__ import annotations

import logging
import random
import re
import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from relaxbench.errors import UserError
from relaxbench.store.urls import reason
from relaxbench.util.text import duration

T = TypeVar("T")

OUTAGE_SECONDS = 900.0
"""A database that does not answer for longer than this ends the work."""
COURTESY_SECONDS = 5.0
"""How long one tries to say something that others find out by themselves: that one leaves."""
LONGEST_PAUSE = 5.0
CROWDED_PAUSE = 0.5
"""The longest pause while a server has no connection to spare: others keep theirs for moments only."""
BEGIN = "relaxbench_begin"
"""Execution option of a connection: with which words SQLite begins a transaction."""
READS = {BEGIN: "BEGIN"}
"""For one that will not write: it takes no lock then."""
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL)
AWAY = ("08", "40", "53", "57P", "55P03")
"""Beginnings of PostgreSQL's codes for: connection lost, deadlock, no resources, shutting down, lock not available."""

REFUSED = ("42501", "25006")
"""PostgreSQL's codes for: no right to do that, read-only."""
BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
FORBIDDEN = (sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH)
"""SQLite's codes for: a damaged file, no right to read or write it."""

CROWD = re.compile(r"too many (clients|connections)|connection slots", re.IGNORECASE)
"""What a server says that has no connection to spare; libpq gives no code with it."""

log = logging.getLogger("relaxbench")


def write(engine: Engine, body: Callable[[Connection], T], patience: float | None = None) -> T:
    """What `body` gives in a transaction of its own.

    It is run again when the connection is lost, or the server is away, full or busy; so it must do no harm if the
    transaction before was in truth the last one and only the answer was lost.

    Args:
        engine: the database.
        body: what is done.
        patience: seconds after which an outage is not waited for any longer; None for `OUTAGE_SECONDS`.

    Raises:
        UserError: if the database does not answer for so long.
        DBAPIError: if it refuses for another reason.
    """

    def attempt() -> T:
        with engine.begin() as connection:
            return body(connection)

    return patiently(engine, attempt, patience)


def read(engine: Engine, body: Callable[[Connection], T]) -> T:
    """What `body` reads in one snapshot, repeated as `write` is."""

    def attempt() -> T:
        with engine.connect().execution_options(**READS) as connection:
            return body(connection)

    return patiently(engine, attempt)


def now(connection: Connection) -> float:
    """Seconds since the epoch by the database's clock: those of the workers may differ."""
    if connection.dialect.name == "sqlite":
        clock = "SELECT (julianday('now') - 2440587.5) * 86400.0"
    else:
        clock = "SELECT extract(epoch FROM clock_timestamp())"
    return float(connection.scalar(text(clock)) or 0.0)


def passing(error: DBAPIError) -> bool:
    """Whether an error may be gone when one tries again."""
    if error.connection_invalidated:
        return True
    if isinstance(error.orig, sqlite3.OperationalError):
        return error.orig.sqlite_errorcode & 0xFF in BUSY
    code = getattr(error.orig, "sqlstate", None)
    # libpq gives no code where it could not even connect
    return isinstance(error, OperationalError) and (code is None or code.startswith(AWAY))


def curable(error: DBAPIError) -> bool:
    """Whether an error is for a person to mend (rights, space, the server, a damaged file), and not one of ours."""
    if isinstance(error.orig, sqlite3.Error):
        code = getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # not all of them come from SQLite
        return code in (*BUSY, *BROKEN, *FORBIDDEN)
    return passing(error) or getattr(error.orig, "sqlstate", None) in REFUSED


def crowded(error: DBAPIError) -> bool:
    """Whether a server has no connection to spare for now."""
    return CROWD.search(str(error.orig)) is not None


def patiently(
    engine: Engine,
    attempt: Callable[[], T],
    patience: float | None = None,
    worth: Callable[[DBAPIError], bool] = passing,
) -> T:
    """What `attempt` gives, tried again as `write` does; it uses this database by means of its own.

    Args:
        engine: the database.
        attempt: may be called again after an error.
        patience: seconds after which an outage is not waited for any longer; None for `OUTAGE_SECONDS`.
        worth: whether an error is worth another attempt.

    Raises:
        UserError: if the database does not answer for so long.
        DBAPIError: if it refuses for another reason.
    """
    begin, pause, told = time.monotonic(), 0.05, False
    limit = OUTAGE_SECONDS if patience is None else patience
    while True:
        try:
            result = attempt()
        except DBAPIError as error:
            if not worth(error):
                raise
            waited, said = time.monotonic() - begin, reason(error, engine.url)
            if waited > limit:
                raise UserError(
                    f"the database has not answered for {duration(waited)} ({said}): what was finished is kept; see to "
                    "it, and run the same command again"
                ) from error
            if waited > 1 and not told:
                told = True
                log.warning(f"the database does not answer ({said}): trying for {duration(limit)}")
            time.sleep(pause * random.uniform(0.5, 1.5))  # workers that were cut off together do not return together
            pause = min(2 * pause, CROWDED_PAUSE if crowded(error) else LONGEST_PAUSE)
        else:
            if told:
                log.warning(f"the database answers again, after {duration(time.monotonic() - begin)}")
            return result
