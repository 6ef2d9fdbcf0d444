"""Tables of every version become those of today, with all that is in them, and a backup of what they were."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, insert, inspect, select, text

from relaxbench.errors import UserError
from relaxbench.store.database import open_database, upgrade_database
from relaxbench.store.migrations import HEAD, REVISIONS, steps
from relaxbench.store.schema import Base, Study, Trial
from tests.store.migrations import version_1
from tests.store.migrations.version_1 import contents

OURS = {*Base.metadata.tables, "relaxbench_version"}
ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest, file: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{file}"
    return str(request.getfixturevalue("server").new_url())


@pytest.fixture
def plain(storage: str) -> Iterator[Engine]:
    """The database as others see it: without our way of opening it."""
    engine = create_engine(storage)
    yield engine
    engine.dispose()


@pytest.fixture
def old(plain: Engine) -> Engine:
    """A database of the first version."""
    with plain.begin() as connection:
        version_1.make(connection)
    plain.dispose()
    return plain


def described(connection: Connection, tables: set[str] | None = None) -> dict[str, Any]:
    """What a database's catalogue says of our tables, whatever the order of columns and the names of constraints."""
    there = inspect(connection)
    found = {}
    for table in tables or (set(there.get_table_names()) & OURS):
        columns = {
            c["name"]: (str(c["type"]), c["nullable"], None if "nextval" in str(c["default"]) else c["default"])
            for c in there.get_columns(table)
        }
        unique = {tuple(sorted(c["column_names"])) for c in there.get_unique_constraints(table)}
        foreign = {(tuple(c["constrained_columns"]), c["referred_table"]) for c in there.get_foreign_keys(table)}
        indexes = {(i["name"], tuple(i["column_names"])) for i in there.get_indexes(table) if not i["unique"]}
        primary = tuple(there.get_pk_constraint(table)["constrained_columns"])
        found[table] = (columns, unique, foreign, indexes, primary)
    return found


def differences(connection: Connection) -> list[Any]:
    """What alembic would still change in our tables."""
    only_ours = {"include_name": lambda name, kind, _: kind != "table" or name in Base.metadata.tables}
    return compare_metadata(MigrationContext.configure(connection, opts=only_ours), Base.metadata)


def drop_all(engine: Engine) -> None:
    """Remove our tables, whatever their version."""
    with engine.begin() as connection:
        for table in ("curves", "weights", "workers", "trials", "studies", "schema", "version"):
            connection.execute(text(f"DROP TABLE IF EXISTS relaxbench_{table}"))


# Steps.


def test_the_steps_that_are_named_are_those_that_are_there() -> None:
    steps = ScriptDirectory(str(ROOT / "relaxbench" / "store" / "migrations")).walk_revisions()
    assert [step.revision for step in steps] == list(reversed(REVISIONS))


def test_all_steps_from_an_empty_database_make_todays_tables(plain: Engine) -> None:
    with plain.begin() as connection:
        steps.take(connection, None)
        assert set(inspect(connection).get_table_names()) == OURS
        assert differences(connection) == []
        stepped = described(connection)
        assert connection.scalars(text("SELECT version_num FROM relaxbench_version")).all() == [HEAD]
    drop_all(plain)
    opened = open_database(plain.url.render_as_string(hide_password=False))
    with opened.connect() as connection:
        assert differences(connection) == []
        assert described(connection) == stepped
    opened.dispose()


def test_the_first_step_makes_the_first_tables(plain: Engine) -> None:
    tables = {"relaxbench_schema", "relaxbench_studies", "relaxbench_trials", "relaxbench_curves", "relaxbench_weights"}
    with plain.begin() as connection:
        steps.take(connection, None, "0001")
        stepped = described(connection, tables)
    drop_all(plain)
    with plain.begin() as connection:
        version_1.make(connection)
        assert described(connection, tables) == stepped


def test_the_comparison_of_tables_finds_a_difference(plain: Engine) -> None:
    open_database(plain.url.render_as_string(hide_password=False)).dispose()
    with plain.begin() as connection:
        connection.execute(text("DROP INDEX relaxbench_trials_by_status"))
        connection.execute(text("ALTER TABLE relaxbench_trials DROP COLUMN error"))
        assert len(differences(connection)) == 2


# Upgrades.


def test_an_old_database_is_upgraded_with_all_that_is_in_it(
    old: Engine, storage: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = contents(old)
    engine = open_database(storage)
    with engine.connect() as connection:
        assert differences(connection) == []
        assert connection.scalars(select(Study.name)).all() == ["s"]
        trials = connection.execute(select(Trial.__table__).order_by(Trial.id)).all()
    after = contents(engine)
    engine.dispose()
    assert {(trial.failures, trial.error) for trial in trials} == {(0, None)}
    for old_row, new_row in zip(before["relaxbench_trials"], after["relaxbench_trials"], strict=True):
        assert {key: new_row[key] for key in old_row} == old_row
    same = ("relaxbench_studies", "relaxbench_curves", "relaxbench_weights", "alembic_version", "trials")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert after["relaxbench_workers"] == [] and "relaxbench_schema" not in after
    (record,) = [record for record in caplog.records if record.name == "relaxbench"]
    assert record.levelno == logging.WARNING
    assert "was upgraded (tables 0001 → 0002)" in record.getMessage() and "\n" not in record.getMessage()


def test_a_new_trial_can_be_stored_after_an_upgrade_and_not_without_its_failures(old: Engine, storage: str) -> None:
    """The default of the new column was for the old rows: it is not part of the tables."""
    engine = open_database(storage)
    row = {"study_id": 1, "problem": "p", "method": "m", "phase": "explore", "block": 0, "parent": 0, "seed": 0}
    with engine.begin() as connection:
        connection.execute(insert(Trial).values(**row, number=99, params={}))
        made = connection.execute(select(Trial.id, Trial.failures).where(Trial.number == 99)).one()
        assert made.failures == 0
        columns = {column["name"]: column for column in inspect(connection).get_columns("relaxbench_trials")}
    engine.dispose()
    assert columns["failures"]["default"] is None and not columns["failures"]["nullable"]


def test_an_upgraded_database_is_left_alone_when_it_is_opened_again(
    old: Engine, storage: str, caplog: pytest.LogCaptureFixture
) -> None:
    done = upgrade_database(storage)
    assert done is not None and (done.before, done.after) == ("0001", "0002")
    before = contents(old)
    assert upgrade_database(storage) is None
    for options in ({}, {"create": False}, {"read_only": True}):
        open_database(storage, **options).dispose()
    assert contents(old) == before and not caplog.records


def test_many_may_open_an_old_database_at_once_and_one_upgrades_it(
    old: Engine, storage: str, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[BaseException] = []

    def attempt() -> None:
        try:
            open_database(storage).dispose()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len([record for record in caplog.records if record.name == "relaxbench"]) == 1
    with old.connect() as connection:
        assert differences(connection) == []


def test_an_old_database_is_not_upgraded_by_a_reader(old: Engine, storage: str) -> None:
    before = contents(old)
    with pytest.raises(UserError) as error:
        open_database(storage, create=False, read_only=True)
    said = str(error.value)
    assert "older version of relaxbench (tables 0001, this one needs 0002)" in said and "\n" not in said
    assert "python -m relaxbench upgrade" in said and "with a backup" in said
    assert contents(old) == before


def test_a_database_of_a_version_that_was_never_seen_is_refused(old: Engine, storage: str) -> None:
    with old.begin() as connection:
        connection.execute(text("UPDATE relaxbench_schema SET version = 7"))
    for options in ({}, {"create": False}, {"read_only": True}):
        with pytest.raises(UserError, match="newer version of relaxbench"):
            open_database(storage, **options)


def test_tables_without_their_version_are_refused(old: Engine, storage: str) -> None:
    with old.begin() as connection:
        connection.execute(text("DROP TABLE relaxbench_schema"))
    before = contents(old)
    with pytest.raises(UserError, match="but not their version"):
        open_database(storage)
    assert contents(old) == before


def test_an_upgrade_that_fails_leaves_everything_as_it_was(old: Engine, storage: str, file: Path) -> None:
    with old.begin() as connection:  # in the way of the last step but one
        connection.execute(text("CREATE TABLE relaxbench_workers (x INTEGER)"))
    before = contents(old)
    with pytest.raises(UserError, match=r"cannot be used \(.*relaxbench_workers.* already exists"):
        open_database(storage)
    assert contents(old) == before
    if old.dialect.name == "sqlite":
        assert set(os.listdir(file.parent)) <= {file.name, f"{file.name}-wal", f"{file.name}-shm"}
    with old.begin() as connection:
        connection.execute(text("DROP TABLE relaxbench_workers"))
    assert upgrade_database(storage) is not None
