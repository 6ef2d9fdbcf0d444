"""Transactions that outlive an outage, and the errors that are none."""

from __future__ import annotations

import itertools
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import (
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    InvalidRequestError,
    OperationalError,
    ProgrammingError,
)

from relaxbench.errors import UserError
from relaxbench.store import database as opening
from relaxbench.store import transactions
from relaxbench.store.database import open_database
from relaxbench.store.transactions import now, passing, read, write
from tests.postgres import Server


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """One that does not wait for a lock by itself."""
    monkeypatch.setattr(opening, "BUSY_SECONDS", 0)
    engine = open_database(str(tmp_path / "a.db"))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (x INTEGER UNIQUE)"))
    yield engine
    engine.dispose()


@pytest.fixture
def remote(server: Server) -> Iterator[Engine]:
    engine = open_database(server.new_url())
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (x INTEGER UNIQUE)"))
    yield engine
    engine.dispose()


@pytest.fixture
def locked(tmp_path: Path, database: Engine) -> Iterator[sqlite3.Connection]:
    """Somebody who holds the file's lock until a ROLLBACK."""
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


def add(connection: Connection) -> int:
    connection.execute(text("INSERT INTO t SELECT coalesce(max(x), 0) + 1 FROM t"))
    return numbers(connection)[-1]


def numbers(connection: Connection) -> list[int]:
    return list(connection.scalars(text("SELECT x FROM t ORDER BY x")))


def later(seconds: float, action: Any) -> threading.Thread:
    thread = threading.Timer(seconds, action)
    thread.start()
    return thread


# SQLite.


def test_a_lock_is_waited_for(database: Engine, locked: sqlite3.Connection) -> None:
    opened = later(0.5, lambda: locked.execute("ROLLBACK"))
    begin = time.monotonic()
    assert write(database, add) == 1
    assert time.monotonic() - begin > 0.3
    opened.join()
    assert read(database, numbers) == [1]


def test_reading_does_not_wait_for_a_writer(database: Engine, locked: sqlite3.Connection) -> None:
    assert read(database, numbers) == []


def test_an_outage_that_lasts_is_one_line_for_a_person(
    database: Engine, locked: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(transactions, "OUTAGE_SECONDS", 2.2)
    monkeypatch.setattr(transactions.random, "uniform", lambda low, high: 1.0)  # tries after 1.55 and 3.15 seconds
    begin = time.monotonic()
    with pytest.raises(UserError, match=r"has not answered for \d s \(database is locked\): what was finished is kept"):
        write(database, add)
    assert 2.2 < time.monotonic() - begin < 15
    assert [record.message for record in caplog.records] == [
        "the database does not answer (database is locked): trying for 2 s"
    ]


def test_a_full_disk_is_called_so(
    database: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(transactions, "OUTAGE_SECONDS", 2.2)
    monkeypatch.setattr(transactions.random, "uniform", lambda low, high: 1.0)  # tries after 1.55 and 3.15 seconds
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL

    def fill(connection: Connection) -> None:
        raise OperationalError("", {}, full)

    with pytest.raises(UserError, match=r"\(database or disk is full\): what was finished is kept"):
        write(database, fill)
    (line,) = [record.message for record in caplog.records]
    assert line == "there is no space for the database (database or disk is full): free some; trying for 2 s"


def test_giving_back_trials_waits_only_briefly_for_the_database(database: Engine, locked: sqlite3.Connection) -> None:
    begin = time.monotonic()
    with pytest.raises(UserError):
        write(database, add, patience=0.2)
    assert time.monotonic() - begin < 5


def test_a_long_outage_is_told_once_and_its_end(
    database: Engine, locked: sqlite3.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    def unlock() -> None:
        while not caplog.records:
            time.sleep(0.01)
        locked.execute("ROLLBACK")

    opened = later(0, unlock)
    assert write(database, add) == 1
    opened.join()
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "trying for 15.0 min" in caplog.records[0].message
    assert caplog.records[1].message.startswith("the database answers again, after ")


@pytest.mark.parametrize("run", [read, write])
def test_connections_that_do_not_answer_one_after_another_are_an_outage(database: Engine, run: Any) -> None:
    """SQLAlchemy tries three connections, and then raises an error that is none of the database's."""
    checkouts = itertools.count(1)

    @event.listens_for(database, "checkout")
    def _lose(*_: object) -> None:
        if next(checkouts) <= 7:
            raise DisconnectionError

    assert run(database, lambda connection: connection.scalar(text("SELECT 7"))) == 7
    assert next(checkouts) == 9
    with pytest.raises(InvalidRequestError, match="another"):
        run(database, lambda connection: _misused())


def _misused() -> None:
    raise InvalidRequestError("another mistake")


def test_other_errors_are_raised_at_once(database: Engine) -> None:
    attempts: list[int] = []

    def twice(connection: Connection) -> None:
        attempts.append(1)
        add(connection)
        connection.execute(text("INSERT INTO t VALUES (1)"))

    def wrong(connection: Connection) -> None:
        attempts.append(1)
        connection.execute(text("SELECT * FROM nowhere"))

    def bug(connection: Connection) -> None:
        attempts.append(1)
        add(connection)
        raise ZeroDivisionError

    for body, error in ((twice, IntegrityError), (wrong, OperationalError), (bug, ZeroDivisionError)):
        with pytest.raises(error):
            write(database, body)
    with pytest.raises(OperationalError):
        read(database, wrong)
    assert len(attempts) == 4 and read(database, numbers) == []  # and nothing of it is left


@pytest.mark.parametrize(
    ("code", "again"),
    [
        (sqlite3.SQLITE_BUSY, True),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, True),
        (sqlite3.SQLITE_LOCKED, True),
        (sqlite3.SQLITE_FULL, True),
        (sqlite3.SQLITE_ERROR, False),
        (sqlite3.SQLITE_READONLY, False),
        (sqlite3.SQLITE_CORRUPT, False),
    ],
)
def test_transient_errors_of_sqlite_are_recognized(code: int, again: bool) -> None:
    cause = sqlite3.OperationalError("no")
    cause.sqlite_errorcode = code
    assert passing(OperationalError("", None, cause)) is again


@pytest.mark.parametrize(
    ("code", "again"),
    [
        (None, True),  # could not connect at all
        ("08006", True),
        ("40001", True),
        ("40P01", True),
        ("53100", True),  # disk full
        ("53300", True),  # too many connections
        ("57P01", True),
        ("57P03", True),
        ("55P03", True),
        ("57014", False),  # somebody has cancelled the statement
        ("42501", False),
    ],
)
def test_transient_errors_of_postgresql_are_recognized(code: str | None, again: bool) -> None:
    cause = Exception()
    cause.sqlstate = code  # type: ignore[attr-defined]
    assert passing(OperationalError("", None, cause)) is again
    assert passing(ProgrammingError("", None, cause)) is False
    assert passing(DBAPIError("", None, cause, connection_invalidated=True))


def test_the_clock_is_the_database_s(database: Engine) -> None:
    assert abs(read(database, now) - time.time()) < 1


# PostgreSQL.


def test_a_server_that_is_away_is_waited_for(server: Server, remote: Engine) -> None:
    """Stopped in disorder while we are connected; started again while we are trying; nothing is added twice."""
    assert write(remote, add) == 1
    server.stop()
    started = later(0.7, server.start)
    assert write(remote, add) == 2
    started.join()
    server.restart()
    assert read(remote, numbers) == [1, 2] and abs(read(remote, now) - time.time()) < 1


def test_a_server_that_goes_within_a_transaction_is_waited_for(server: Server, remote: Engine) -> None:
    attempts: list[int] = []

    def interrupted(connection: Connection) -> int:
        attempts.append(1)
        if len(attempts) == 1:
            add(connection)
            server.restart()
        return add(connection)

    assert write(remote, interrupted) == 1
    assert len(attempts) == 2 and read(remote, numbers) == [1]


def test_a_server_that_stays_away_is_one_line_without_a_password(
    server: Server, remote: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "OUTAGE_SECONDS", 0.3)
    server.stop("fast")
    try:
        with pytest.raises(UserError, match=r"has not answered for . s \(.+\)") as given_up:
            write(remote, add)
    finally:
        server.start()
    assert "\n" not in str(given_up.value)
    with pytest.raises(ProgrammingError):  # and what is wrong is wrong at once
        write(remote, lambda connection: connection.execute(text("SELECT * FROM nowhere")))
