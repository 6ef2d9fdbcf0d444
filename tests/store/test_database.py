"""Opening a database: created when new, continued when known, refused in one line when it cannot be used."""

from __future__ import annotations

import gc
import os
import re
import sqlite3
import sys
import threading
import traceback
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, inspect, select, text, update
from sqlalchemy.exc import OperationalError

from relaxbench.errors import UserError
from relaxbench.store import database as module
from relaxbench.store.database import OpenFile, open_database, parse_url
from relaxbench.store.migrations import HEAD, upgrade
from relaxbench.store.schema import CURVE_COLUMNS, Base, Study, Trial
from tests import brief, processes

VERSION = text("SELECT version_num FROM relaxbench_version")


def refusal(storage: Path | str, **options: bool) -> str:
    """The one line with which a storage is refused."""
    with pytest.raises(UserError) as error:
        open_database(str(storage), **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# The good cases.


def test_tables_that_tests_make_by_plain_statements_are_those_of_a_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def entries(name: str) -> tuple[list[Any], list[Any]]:
        with closing(sqlite3.connect(tmp_path / name)) as file:
            written = file.execute("SELECT * FROM relaxbench_version").fetchall()
            made = file.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name")
            return made.fetchall(), written

    for name in ("first.db", "quick.db"):
        open_database(str(tmp_path / name)).dispose()
    monkeypatch.setattr(upgrade, "_make", brief.MAKE)
    open_database(str(tmp_path / "usual.db")).dispose()
    assert entries("quick.db") == entries("usual.db")


def test_a_new_file_is_made_with_our_tables(file: Path) -> None:
    engine = open_database(f"sqlite:///{file}")
    names = set(inspect(engine).get_table_names())
    assert names == {*Base.metadata.tables, "relaxbench_version"} and all(
        name.startswith("relaxbench_") for name in names
    )
    with engine.connect() as connection:
        assert connection.scalar(VERSION) == HEAD
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    engine.dispose()


def test_reopening_finds_what_was_written_and_makes_nothing_anew(database: Engine, file: Path) -> None:
    for options in ({}, {"create": False}, {"read_only": True}):
        engine = open_database(str(file), **options)
        with engine.connect() as connection:
            assert connection.scalars(select(Study.name)).all() == ["s"]
            assert connection.scalars(VERSION).all() == [HEAD]
            seeds = connection.scalars(select(Trial.seed).order_by(Trial.id)).all()
            assert seeds == [2**62 + number for number in range(12)]
        engine.dispose()


def test_an_empty_file_and_a_database_of_optuna_receive_our_tables(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    open_database(str(tmp_path / "empty.db")).dispose()
    with sqlite3.connect(tmp_path / "optuna.db") as other:
        other.execute("CREATE TABLE studies (study_id INTEGER)")
        other.execute("CREATE TABLE version_info (version_info_id INTEGER)")
    other.close()
    engine = open_database(str(tmp_path / "optuna.db"))
    assert {"studies", "relaxbench_trials"} <= set(inspect(engine).get_table_names())
    engine.dispose()


@pytest.mark.parametrize(
    ("create", "told"),
    [
        (True, "is the database of another program (tables a, b, c, …), and nothing"),
        (False, "holds no relaxbench study"),
    ],
)
def test_the_database_of_another_program_is_refused_and_left_as_it_is(tmp_path: Path, create: bool, told: str) -> None:
    file = tmp_path / "people.db"
    with sqlite3.connect(file) as other:
        for name in ("b", "a", "d", "c"):
            other.execute(f"CREATE TABLE {name} (id INTEGER)")
    other.close()
    before = file.read_bytes()
    with pytest.raises(UserError, match=re.escape(f"people.db' {told}")):
        open_database(str(file), create=create)
    assert file.read_bytes() == before and os.listdir(tmp_path) == ["people.db"]


@pytest.mark.parametrize("name", ["a b.db", "ü.db", "a?b#c.db", "100%41.db", "a'b.db"])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    open_database(str(tmp_path / name)).dispose()
    assert name in os.listdir(tmp_path)
    open_database(str(tmp_path / name), read_only=True).dispose()


def test_a_reader_cannot_write(database: Engine, file: Path) -> None:
    reader = open_database(str(file), read_only=True)
    with pytest.raises(OperationalError, match="readonly"), reader.begin() as connection:
        connection.execute(update(Trial).values(status="done"))
    reader.dispose()


def test_reading_leaves_no_files_of_sqlite(tmp_path: Path) -> None:
    """Neither a reader that is disposed of, nor one that is still open when a program ends."""
    file = tmp_path / "study.db"
    open_database(str(file)).dispose()
    assert os.listdir(tmp_path) == ["study.db"]
    before, reader = file.read_bytes(), open_database(str(file), read_only=True)
    with reader.connect() as connection:
        connection.execute(select(Trial.status))
        assert len(os.listdir(tmp_path)) == 3
    reader.dispose()
    assert os.listdir(tmp_path) == ["study.db"]
    program = f"""
import gc
from relaxbench.store.database import open_database
from relaxbench.store.schema import Trial
from sqlalchemy import select
connection = open_database({str(file)!r}, read_only=True).connect()
connection.execute(select(Trial.status))
gc.freeze()  # as commands do
"""
    assert processes.run(["-c", program]).returncode == 0
    assert os.listdir(tmp_path) == ["study.db"] and file.read_bytes() == before


def test_a_reader_is_not_held_up_by_a_writer_and_sees_no_half_written_transaction(
    database: Engine, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.1)
    with database.begin() as writer:
        writer.execute(update(Trial).values(status="done"))
        reader = open_database(str(file), read_only=True)
        with reader.connect() as connection:
            assert set(connection.scalars(select(Trial.status))) == {"waiting"}
        reader.dispose()


def test_many_may_open_a_new_file_at_once(file: Path) -> None:
    errors: list[BaseException] = []

    def attempt() -> None:
        try:
            open_database(str(file)).dispose()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with sqlite3.connect(file) as connection:
        assert connection.execute(VERSION.text).fetchall() == [(HEAD,)]
    connection.close()


def test_a_forgotten_file_closes_itself_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Since Python 3.13, sqlite3 warns of connections that nobody has closed; warnings are errors here."""
    said: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    engine = open_database(str(tmp_path / "study.db"))
    with engine.connect() as connection:
        connection.execute(VERSION)
    del engine, connection
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        sqlite3.connect(tmp_path / "none" / "study.db", factory=OpenFile)
    gc.collect()
    assert said == []


def test_turning_on_the_write_ahead_log_is_tried_again_while_another_does_it() -> None:
    """SQLite answers "locked" at once there, whatever its timeout: one process in a hundred failed."""
    file, calls = sqlite3.connect(":memory:"), list[str]()

    class Busy:
        def execute(self, statement: str) -> None:
            calls.append(statement)
            if len(calls) < 3:
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                raise error
            file.execute(statement)

    module._write_ahead(Busy())  # type: ignore[arg-type]
    assert calls == ["PRAGMA journal_mode=WAL"] * 3
    file.close()


def test_curves_have_names_for_their_rows() -> None:
    assert CURVE_COLUMNS == ("gradients", "train_loss", "validation_loss", "validation_metric", "gamma")


# What is refused.


def test_a_newer_version_is_refused_and_left_as_it_is(database: Engine, file: Path) -> None:
    with database.begin() as connection:
        connection.execute(text("UPDATE relaxbench_version SET version_num = '9999'"))
    database.dispose()
    before = file.read_bytes()
    for options in ({}, {"read_only": True}, {"create": False}):
        said = refusal(file, **options)
        assert f"newer version of relaxbench (tables 9999, this one knows {HEAD})" in said
        assert "upgrade relaxbench" in said
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", [b"hello, this is not a database", b"x", b"SQLite format 4\x00" + bytes(100)])
def test_a_file_of_another_kind_is_refused_and_left_as_it_is(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert "is not a SQLite database: choose another file" in refusal(file)
    assert file.read_bytes() == content


def test_a_damaged_database_is_refused(file: Path) -> None:
    file.write_bytes(b"SQLite format 3\x00" + bytes(range(256)) * 8)
    assert "cannot be used (" in refusal(file)


def test_a_folder_and_other_things_are_refused(tmp_path: Path) -> None:
    assert "is a folder: give a file in it" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in refusal(tmp_path / "pipe")
    assert "is not a regular file" in refusal("/dev/null")


def test_a_missing_parent_folder_is_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path / "no" / "such" / "study.db")
    assert "does not exist: create it first" in said and str(tmp_path / "no" / "such") in said
    (tmp_path / "file").touch()
    assert "does not exist" in refusal(tmp_path / "file" / "study.db")


@pytest.mark.parametrize("options", [{"create": False}, {"read_only": True}])
def test_a_missing_file_is_refused_where_it_must_exist(file: Path, options: dict[str, bool]) -> None:
    assert "does not exist: run python -m relaxbench study first" in refusal(file, **options)
    assert not file.exists()


@pytest.mark.parametrize("options", [{"create": False}, {"read_only": True}])
def test_a_database_without_a_study_is_refused_where_one_must_exist(file: Path, options: dict[str, bool]) -> None:
    with sqlite3.connect(file) as other:
        other.execute("CREATE TABLE t (x)")
    other.close()
    assert "holds no relaxbench study" in refusal(file, **options)


@pytest.mark.parametrize("storage", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused(storage: str) -> None:
    with pytest.raises(UserError, match="must be a file"):
        parse_url(storage)


@pytest.mark.parametrize("storage", ["://", "postgresql+psycopg://user@host:port/name", "http//x://"])
def test_what_is_no_url_is_refused(storage: str) -> None:
    with pytest.raises(UserError, match=r"is not a database URL: expected sqlite:///file.db or postgresql"):
        parse_url(storage)


@pytest.mark.parametrize("driver", ["mysql", "postgresql+psycopg2", "postgresql+nosuchdriver", "sqlite+aiosqlite"])
def test_a_database_or_driver_that_is_not_supported_is_named(driver: str) -> None:
    said = refusal(f"{driver}://user@host/name")
    assert f"{driver!r} is not supported" in said
    assert "expected sqlite:///file.db or postgresql+psycopg://" in said


@pytest.mark.parametrize("driver", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgresql_without_a_driver_is_psycopg(driver: str) -> None:
    assert parse_url(f"{driver}://user@host/name").drivername == "postgresql+psycopg"


def test_a_missing_psycopg_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    said = refusal("postgresql://user:hunter2@host/name")
    assert "needs the driver psycopg, which is not installed: pip install 'relaxbench[postgres]'" in said
    assert "hunter2" not in said


# Passwords.


@pytest.mark.parametrize(
    "storage",
    [
        "postgresql+nosuchdriver://user:hunter2@host/name",
        "postgresql+psycopg://user:hunter2@host:notaport/name",
        "postgresql+psycopg://user:hun:hunter2@host:notaport/name",
        "mysql://user:hunter2@host/name",
        "postgresql://host:notaport/name?user=user&password=hunter2",
        "postgresql://127.0.0.1:1/name?user=user&password=hunter2",
    ],
)
def test_a_password_is_never_shown(storage: str) -> None:
    with pytest.raises(UserError) as error:
        open_database(storage)
    said = str(error.value)
    assert "***" in said and "user" in said
    assert "hunter2" not in "".join(traceback.format_exception(error.value))


def test_a_password_in_the_driver_s_own_words_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    class Server:
        dialect = SimpleNamespace(name="postgresql")

        def connect(self) -> None:
            raise OperationalError("SELECT 1", {}, Exception('bad login "user:hunter2"\nsecond line'))

        def dispose(self) -> None: ...

    monkeypatch.setattr(module, "create_engine", lambda *_, **__: Server())
    monkeypatch.setattr(module, "close_idle", lambda engine: engine)
    monkeypatch.setattr(module, "prepare_tables", lambda engine, *_, **__: engine.connect())
    said = refusal("postgresql+psycopg://user:hunter2@host/name")
    assert 'bad login "user:***"' in said and "hunter2" not in said and "second line" not in said


def test_a_server_that_is_not_there_is_said_in_one_line() -> None:
    pytest.importorskip("psycopg", reason="needs psycopg")
    said = refusal("postgresql+psycopg://user:hunter2@127.0.0.1:1/name")
    assert "cannot be used (" in said and "hunter2" not in said
    assert said.endswith("check the host and the port, and that the server runs")


def test_a_busy_database_is_refused_when_the_waiting_is_over(
    database: Engine, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.1)
    with database.begin() as connection:
        connection.execute(update(Study).values(name="other"))
        assert "database is locked" in refusal(file)
        connection.rollback()
