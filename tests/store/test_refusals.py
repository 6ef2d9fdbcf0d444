"""What a PostgreSQL server refuses is said in one line, with what to do, and without any password."""

from __future__ import annotations

import socket
import sqlite3
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from relaxbench.errors import UserError
from relaxbench.store import database as module
from relaxbench.store.database import open_database
from relaxbench.store.urls import show_url
from tests import postgres
from tests.store import studies

SECRET, WRONG = "geheim", "hunter2"


@pytest.fixture(scope="module")
def guarded() -> Iterator[postgres.Server]:
    """A server that wants a password, reached over TCP; a user of it may do nothing but connect."""
    postgres.require()
    server = postgres.Server(password=SECRET, tcp=True)
    try:
        server.start()
        server.execute(f"CREATE USER guest PASSWORD '{SECRET}'")
        yield server
    finally:
        server.remove()


def refusal(url: str, **options: Any) -> str:
    """The one line with which a storage is refused; nothing that is printed of the error shows a password."""
    with pytest.raises(UserError) as error:
        open_database(url, **options)
    shown = "".join(traceback.format_exception(error.value))
    assert SECRET not in shown and WRONG not in shown
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_right_password_opens(guarded: postgres.Server) -> None:
    engine = open_database(guarded.new_url())
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM relaxbench_trials")) == 0
    engine.dispose()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_a_url_without_a_driver_opens(guarded: postgres.Server, scheme: str) -> None:
    engine = open_database(guarded.new_url().replace("postgresql+psycopg", scheme))
    assert engine.url.drivername == "postgresql+psycopg"
    engine.dispose()


def test_a_wrong_password(guarded: postgres.Server) -> None:
    said = refusal(guarded.url_of("postgres", password=WRONG))
    assert 'password authentication failed for user "tester"' in said
    assert said.endswith("check the user and the password, or set PGPASSWORD")


def test_a_wrong_password_among_the_parameters(guarded: postgres.Server) -> None:
    said = refusal(f"postgresql://127.0.0.1:{guarded.port}/postgres?user=tester&password={WRONG}")
    assert "password authentication failed" in said and "password=***" in said


def test_no_password(guarded: postgres.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.setenv("PGPASSFILE", "/dev/null")
    said = refusal(guarded.url.replace(f":{SECRET}@", "@"))
    assert "no password supplied" in said and said.endswith("or set PGPASSWORD")
    monkeypatch.setenv("PGPASSWORD", SECRET)
    open_database(guarded.new_url().replace(f":{SECRET}@", "@")).dispose()


def test_a_database_that_is_not_there(guarded: postgres.Server) -> None:
    said = refusal(guarded.url_of("nowhere"))
    assert 'database "nowhere" does not exist' in said and said.endswith("create it first, with createdb")


def test_a_database_without_the_right_to_make_tables(guarded: postgres.Server) -> None:
    url = guarded.new_url()
    guarded.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC", url)
    guest = url.replace("tester:", "guest:")
    said = refusal(guest)
    assert "permission denied for schema public" in said and "GRANT CREATE ON SCHEMA public" in said
    assert guarded.execute("SELECT 1 FROM pg_tables WHERE tablename LIKE 'relaxbench%'", url) == []
    assert "holds no relaxbench study" in refusal(guest, create=False)
    open_database(url).dispose()
    assert "permission denied for table relaxbench_version" in refusal(guest)
    guarded.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest", url)
    open_database(guest, create=False, read_only=True).dispose()


def test_a_database_that_lacks_characters_is_refused(guarded: postgres.Server) -> None:
    guarded.execute("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    said = refusal(guarded.url_of("latin"))
    assert "holds text in LATIN1" in said and said.endswith("made by createdb -E UTF8 -T template0 NAME")
    assert guarded.execute("SELECT 1 FROM pg_tables WHERE tablename LIKE 'relaxbench%'", guarded.url_of("latin")) == []


def test_a_database_without_an_encoding_holds_every_character(guarded: postgres.Server) -> None:
    guarded.execute("CREATE DATABASE bytes ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    engine = open_database(guarded.url_of("bytes"))
    try:
        studies.add(engine, "γ – “study”")
        assert studies.told(engine, "γ – “study”")["study"]["name"] == "γ – “study”"
        assert "client_encoding" not in show_url(engine.url)
    finally:
        engine.dispose()


def test_a_server_that_is_stopped(guarded: postgres.Server) -> None:
    guarded.stop()
    try:
        said = refusal(guarded.url)
    finally:
        guarded.start()
    assert "Connection refused" in said
    assert said.endswith("check the host and the port, and that the server runs")


def test_a_worker_that_starts_during_an_outage_waits_for_its_end(guarded: postgres.Server) -> None:
    url = guarded.new_url()
    open_database(url).dispose()
    guarded.stop()
    back = threading.Timer(0.3, guarded.start)
    back.start()
    try:
        open_database(url, create=False, patience=60).dispose()
    finally:
        back.join()


def test_a_worker_that_starts_while_a_file_is_locked_waits_for_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "study.db"
    open_database(str(file)).dispose()
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as holder:
        holder.execute("PRAGMA locking_mode=EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        assert "another process is using it" in refusal(str(file), create=False)
        with pytest.raises(UserError, match="has not answered"):
            open_database(str(file), create=False, patience=0.2)
        end = threading.Timer(0.3, holder.close)
        end.start()
        open_database(str(file), create=False, patience=60).dispose()
        end.join()


def test_a_socket_that_is_not_there() -> None:
    postgres.require()
    said = refusal(f"postgresql://user:{WRONG}@/name?host=/no/such/folder")
    assert "No such file or directory" in said and "check the host and the port" in said


def test_a_host_that_nobody_knows() -> None:
    postgres.require()
    assert "check the host and the port" in refusal(f"postgresql://user:{WRONG}@no-such-host.invalid/name")


def test_a_server_that_never_answers_is_waited_for_so_long_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    postgres.require()
    assert module.CONNECT_SECONDS == 10
    with socket.create_server(("127.0.0.1", 0)) as silent:
        at = f"postgresql://user:{WRONG}@127.0.0.1:{silent.getsockname()[1]}/name"
        began = time.monotonic()
        said = refusal(f"{at}?connect_timeout=2")  # the URL's own has its way
        assert 1 < time.monotonic() - began < 8
        monkeypatch.setattr(module, "CONNECT_SECONDS", 2)
        assert refusal(at) == said.replace("?connect_timeout=2", "")
        assert time.monotonic() - began < 16
    assert "timeout" in said and said.endswith("check the host and the port, and that the server runs")
