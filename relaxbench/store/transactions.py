"""Transactions that outlive an outage: repeated with growing pauses until the database answers again."""

from __future__ import annotations

import logging
import random
import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

T = TypeVar("T")

OUTAGE_SECONDS = 900.0
"""A database that does not answer for longer than this ends the work."""
LONGEST_PAUSE = 5.0
READS = {"relaxbench_begin": "BEGIN"}
"""Execution option of a connection that will not write: SQLite then takes no lock."""
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL)
AWAY = ("08", "40", "53", "57P", "55P03")
"""Beginnings of PostgreSQL's codes for: connection lost, deadlock, no resources, shutting down, lock not available."""

log = logging.getLogger("relaxbench")


def write(engine: Engine, body: Callable[[Connection], T]) -> T:
    """What `body` gives in a transaction of its own.

    It is run again when the connection is lost, or the server is away, full or busy; so it must do no harm if the
    transaction before was in truth the last one and only the answer was lost.

    Raises:
        DBAPIError: if the database does not answer for `OUTAGE_SECONDS`, or refuses for another reason.
    """

    def attempt() -> T:
        with engine.begin() as connection:
            return body(connection)

    return _patiently(attempt)


def read(engine: Engine, body: Callable[[Connection], T]) -> T:
    """What `body` reads in one snapshot, repeated as `write` is."""

    def attempt() -> T:
        with engine.connect().execution_options(**READS) as connection:
            return body(connection)

    return _patiently(attempt)


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


def _patiently(attempt: Callable[[], T]) -> T:
    begin, pause, told = time.monotonic(), 0.05, False
    while True:
        try:
            result = attempt()
        except DBAPIError as error:
            waited = time.monotonic() - begin
            if not passing(error) or waited > OUTAGE_SECONDS:
                raise
            if waited > 1 and not told:
                told = True
                reason = next(iter(str(error.orig).strip().splitlines()), "no reason given")
                log.warning(f"the database does not answer ({reason}): trying for {OUTAGE_SECONDS / 60:.0f} minutes")
            time.sleep(pause * random.uniform(0.5, 1.5))  # workers that were cut off together do not return together
            pause = min(2 * pause, LONGEST_PAUSE)
        else:
            if told:
                log.warning(f"the database answers again, after {time.monotonic() - begin:.0f} s")
            return result
