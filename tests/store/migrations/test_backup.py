"""Before an upgrade: what a database was is kept beside it, whole, and nothing is overwritten."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from relaxbench.store.database import upgrade_database
from tests.postgres import Server
from tests.store.migrations import version_1
from tests.store.migrations.version_1 import contents

ROOT = Path(__file__).parents[3]


def made(url: str) -> Iterator[Engine]:
    """A database of the first version, and an engine that is not ours."""
    engine = create_engine(url)
    with engine.begin() as connection:
        version_1.make(connection)
    engine.dispose()
    yield engine
    engine.dispose()


@pytest.fixture
def old(file: Path) -> Iterator[Engine]:
    """In a file."""
    yield from made(f"sqlite:///{file}")


@pytest.fixture
def storage(server: Server) -> str:
    return server.new_url()


@pytest.fixture
def on_server(storage: str) -> Iterator[Engine]:
    yield from made(storage)


def test_the_backup_of_a_file_equals_the_file_before_the_upgrade(old: Engine, file: Path) -> None:
    before = contents(old)
    old.dispose()
    file.chmod(0o640)
    done = upgrade_database(str(file))
    kept = file.with_name("study.db.before-0001")
    assert done is not None and done.backup == repr(str(kept))
    assert set(os.listdir(file.parent)) == {file.name, kept.name}  # no log beside it, no leftovers
    assert kept.stat().st_mode & 0o777 == 0o640
    engine = create_engine(f"sqlite:///{kept}")
    assert contents(engine) == before
    engine.dispose()
    with sqlite3.connect(kept) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA journal_mode").fetchall() == [("delete",)]
    connection.close()
    # It is an old database: it can take the place of the new one, and be upgraded again.
    os.replace(kept, file)
    assert upgrade_database(str(file)) is not None


def test_no_file_is_overwritten_by_a_backup(old: Engine, file: Path) -> None:
    old.dispose()
    taken = [file.with_name(name) for name in ("study.db.before-0001", "study.db.before-0001-2")]
    for path in taken:
        path.write_text("mine")
    done = upgrade_database(str(file))
    assert done is not None and done.backup.endswith("study.db.before-0001-3'")
    assert [path.read_text() for path in taken] == ["mine", "mine"]


def test_what_others_have_just_written_to_the_log_is_in_the_backup(old: Engine, file: Path) -> None:
    """A file alone is not the database while its log has not been moved into it."""
    old.dispose()
    other = sqlite3.connect(file)
    other.execute("PRAGMA journal_mode=WAL")
    other.execute("UPDATE relaxbench_studies SET name = 'in the log'")
    other.commit()
    upgrade_database(str(file))
    other.close()
    kept = sqlite3.connect(file.with_name("study.db.before-0001"))
    assert kept.execute("SELECT name FROM relaxbench_studies").fetchall() == [("in the log",)]
    kept.close()


LITTLE_SPACE = """
import resource, sys
from relaxbench.errors import UserError
from relaxbench.store.database import open_database
import alembic.command  # loads nothing afterwards
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    open_database(sys.argv[1])
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("column", "share", "said"),
    [
        ("relaxbench_weights SET data", 0.75, "no backup can be written next to it ("),
        ("relaxbench_trials SET correct", 1.0, "cannot be used ("),  # the backup fits, the new table does not
    ],
)
def test_without_space_for_a_backup_nothing_is_changed(
    old: Engine, file: Path, column: str, share: float, said: str
) -> None:
    """Files of this process may not grow beyond a share of the database."""
    with old.begin() as connection:
        connection.execute(text(f"UPDATE {column} = :data"), {"data": os.urandom(2_000_000)})
    before = contents(old)
    old.dispose()
    limit = int(file.stat().st_size * share)
    command = [sys.executable, "-c", LITTLE_SPACE, str(file), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert said in done.stdout and done.stdout.count("\n") == 1, done.stdout
    assert done.stderr == ""
    assert contents(old) == before
    old.dispose()
    assert [name for name in os.listdir(file.parent) if "before" in name] == []


def test_the_backup_of_a_server_is_copies_of_our_tables(on_server: Engine, storage: str) -> None:
    before = {name: rows for name, rows in contents(on_server).items() if name.startswith("relaxbench_")}
    done = upgrade_database(storage)
    assert done is not None and "relaxbench_backup_0001_" in done.backup
    after = contents(on_server)
    assert {name.removeprefix("relaxbench_backup_0001_"): r for name, r in after.items() if "backup" in name} == before


def test_no_table_is_overwritten_by_a_backup(on_server: Engine, storage: str) -> None:
    with on_server.begin() as connection:
        connection.execute(text("CREATE TABLE relaxbench_backup_0001_relaxbench_curves (x INTEGER)"))
    done = upgrade_database(storage)
    assert done is not None and "relaxbench_backup_0001_2_" in done.backup
    names = contents(on_server)
    assert names["relaxbench_backup_0001_relaxbench_curves"] == []
    assert "relaxbench_backup_0001_2_relaxbench_backup_0001_relaxbench_curves" not in names
    assert len(names["relaxbench_backup_0001_2_relaxbench_trials"]) == 3
