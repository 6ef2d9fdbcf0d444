"""The commands that move studies: what they print, what they leave behind, and how they refuse."""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from relaxbench.cli.main import main
from relaxbench.store.database import open_database
from tests.cli.commands import STUDY, printed, refused
from tests.postgres import Server
from tests.store import studies
from tests.store.migrations import version_1

pytestmark = pytest.mark.usefixtures("folder")

COUNTS = "12 trials (3 done), 3 curves, weights of 2 runs"


@pytest.fixture
def stored(folder: Path) -> None:
    """The default storage, with two studies."""
    engine = open_database("relaxbench.db")
    studies.add(engine, "s")
    studies.add(engine, "other", 3, seed=1)
    engine.dispose()


def names(file: str) -> list[str]:
    connection = sqlite3.connect(file)
    found = [name for (name,) in connection.execute("SELECT name FROM relaxbench_studies ORDER BY id")]
    connection.close()
    return found


@pytest.mark.usefixtures("stored")
def test_copy_makes_the_other_database_and_says_what_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "copy", "s", "--to", "sqlite:///there.db")
    assert out == f"Copied 's' to 'sqlite:///there.db': {COUNTS}.\n"
    assert names("there.db") == ["s"]
    out = printed(capsys, "copy", "s", "--to", "there.db", "--name", "again")
    assert out == f"Copied 's' to 'sqlite:///there.db' as 'again': {COUNTS}.\n"
    out = printed(capsys, "copy", "s", "--storage", "there.db", "--to", "there.db", "--name", "within")
    assert names("there.db") == ["s", "again", "within"] and names("relaxbench.db") == ["s", "other"]


@pytest.mark.usefixtures("stored")
def test_export_and_import(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "export", "s", "mine.db") == f"Exported 's' to 'mine.db': {COUNTS}.\n"
    out = printed(capsys, "import", "mine.db", "--name", "t")
    assert out == f"Imported 's' from 'mine.db' as 't': {COUNTS}.\n"
    assert names("mine.db") == ["s"] and names("relaxbench.db") == ["s", "other", "t"]
    printed(capsys, "import", "mine.db", "--storage", "new.db")
    assert names("new.db") == ["s"]
    printed(capsys, "import", "relaxbench.db", "other", "--storage", "new.db")  # any database will do
    assert names("new.db") == ["s", "other"]


@pytest.mark.usefixtures("stored")
def test_mistakes_are_one_line_and_leave_nothing_behind(capsys: pytest.CaptureFixture[str]) -> None:
    Path("diary.txt").write_text("dear diary")
    open_database("there.db").dispose()
    assert "unknown study 'x'" in refused(capsys, "copy", "x", "--to", "new.db")
    assert "'s' is already in storage 'sqlite:///relaxbench.db'" in refused(
        capsys, "copy", "s", "--to", "relaxbench.db"
    )
    assert "does not exist" in refused(capsys, "copy", "s", "--to", "no/such/folder/x.db")
    assert "does not exist" in refused(capsys, "copy", "s", "--storage", "none.db", "--to", "new.db")
    refusal = refused(capsys, "copy", "s", "--to", "there.db", "--name", "")
    assert "name '': expected 1 to 200" in refusal and refusal.endswith("(option --name)\n")
    assert "storage 'sqlite://' must be a file" in refused(capsys, "copy", "s", "--to", "sqlite://")
    assert "storage '' must be a file" in refused(capsys, "copy", "s", "--to", "")
    assert "'--to'" in refused(capsys, "copy", "s")
    assert "'mysql' is not supported" in refused(capsys, "copy", "s", "--to", "mysql://me:geheim@host/x")
    assert "unknown study 'x'" in refused(capsys, "export", "x", "new.db")
    assert "already exists" in refused(capsys, "export", "s", "diary.txt")
    assert "unknown study ''" in refused(capsys, "export", "", "new.db")
    assert "'file': '' names no file or folder" in refused(capsys, "export", "s", "")
    assert "'file': '' names no file or folder" in refused(capsys, "import", "")
    assert "file '.' is a folder: name a file in it, e.g. 'study.db'" in refused(capsys, "export", "s", ".")
    assert "does not exist" in refused(capsys, "export", "s", "no/such/folder/x.db")
    assert "file 'none.db' does not exist" in refused(capsys, "import", "none.db", "--storage", "new.db")
    assert "is not a SQLite database" in refused(capsys, "import", "diary.txt", "--storage", "new.db")
    assert "which study? there are 2: s, other" in refused(capsys, "import", "relaxbench.db", "--storage", "new.db")
    assert "unknown study 'x'" in refused(capsys, "import", "relaxbench.db", "x", "--storage", "new.db")
    assert "does not exist" in refused(capsys, "upgrade", "--storage", "none.db")
    assert names("there.db") == []


def test_a_file_without_anything_stays_so(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty.db").touch()
    for line in (("import", "empty.db"), *((name, "--storage", "empty.db") for name in ("upgrade", "reap", "show"))):
        assert "storage 'sqlite:///empty.db' holds no relaxbench study" in refused(capsys, *line)
    assert os.path.getsize("empty.db") == 0


@pytest.mark.usefixtures("stored")
def test_a_refused_import_leaves_no_file_of_sqlite_s(capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "export", "s", "mine.db")
    before = sorted(os.listdir())
    assert main(["import", "mine.db", "--storage", "mine.db"]) == 2
    assert "study 's' is already in storage 'sqlite:///mine.db'" in capsys.readouterr().err
    assert sorted(os.listdir()) == before


@pytest.mark.usefixtures("stored")
def test_a_damaged_study_that_is_imported_or_copied_leaves_no_new_database(capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect("relaxbench.db") as connection:
        connection.execute("UPDATE relaxbench_curves SET data = substr(data, 2)")
    connection.close()
    for command in ("import relaxbench.db s --storage new.db", "copy s --to new.db"):
        assert "the curve of trial" in refused(capsys, *command.split())  # which sees that nothing was written


def test_upgrade_says_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    engine = create_engine("sqlite:///relaxbench.db")
    with engine.begin() as connection:
        version_1.make(connection)
    engine.dispose()
    line = refused(capsys, "show")
    assert "older version" in line and line.endswith("by python -m relaxbench upgrade (option --storage)\n")
    assert printed(capsys, "upgrade") == (
        "Storage 'sqlite:///relaxbench.db' was upgraded (tables 0001 → 0002); the old tables are kept in "
        "'relaxbench.db.before-0001'.\n"
    )
    assert names("relaxbench.db") == names("relaxbench.db.before-0001") == ["s"]
    out = printed(capsys, "upgrade")
    assert out == "Storage 'sqlite:///relaxbench.db' is up to date (tables 0002); nothing was changed.\n"
    assert sorted(os.listdir()) == ["relaxbench.db", "relaxbench.db.before-0001"]


def test_a_copy_goes_on_where_the_study_was(capsys: pytest.CaptureFixture[str]) -> None:
    """Finished there, it runs nothing here; under its new name, too; and Optuna is told of its trials."""
    Path("tiny.toml").write_text(STUDY)
    printed(capsys, "study", "tiny.toml", "--no-report", "--population", "8")
    printed(capsys, "copy", "tiny", "--to", "there.db", "--name", "renamed")
    at = ("--storage", "there.db", "--no-report")
    out = printed(capsys, "study", "tiny.toml", "--name", "renamed", *at)
    assert "trials of study 'renamed' are done; nothing was run" in out
    connection = sqlite3.connect("there.db")
    assert connection.execute("SELECT count(*) FROM relaxbench_trials WHERE status != 'done'").fetchone() == (0,)
    searched = "SELECT count(*) FROM relaxbench_trials WHERE phase IN ('explore', 'exploit')"
    assert connection.execute("SELECT count(*) FROM trials").fetchone() == connection.execute(searched).fetchone()
    connection.close()
    assert "renamed" in printed(capsys, "show", "--storage", "there.db")


# The storage's address.


@pytest.mark.usefixtures("stored")
def test_the_storage_may_stand_in_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    printed(capsys, "copy", "s", "--to", "there.db", "--name", "t")
    monkeypatch.setenv("RELAXBENCH_STORAGE", "sqlite:///there.db")
    assert "unknown study 's'" in refused(capsys, "show", "s")
    assert "unknown study 't'" in refused(capsys, "show", "t", "--storage", "relaxbench.db")  # what is typed counts
    printed(capsys, "import", "relaxbench.db", "s")
    assert names("there.db") == ["t", "s"]
    monkeypatch.setenv("RELAXBENCH_STORAGE", "")
    assert "unknown study 't'" in refused(capsys, "show", "t")


def test_a_password_in_the_environment_is_not_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    monkeypatch.setenv("RELAXBENCH_STORAGE", server.new_url().replace("tester@", "tester:geheim@"))
    assert "geheim" not in refused(capsys, "show")
    assert main(["show", "--help"]) == 0
    assert "geheim" not in capsys.readouterr().out
    open_database(os.environ["RELAXBENCH_STORAGE"]).dispose()
    out = printed(capsys, "upgrade")
    assert "tester:***@" in out and "geheim" not in out


@pytest.mark.parametrize("command", ["study", "show", "copy", "export", "import", "upgrade", "doctor"])
def test_help_says_where_the_storage_comes_from(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([command, "--help"]) == 0
    out, err = capsys.readouterr()
    text = " ".join(re.sub("[^ -~]", " ", out).split())
    assert "[default: $RELAXBENCH_STORAGE, or sqlite:///relaxbench.db]" in text and err == ""
    assert "env var" not in text and all(len(line) <= 80 for line in out.splitlines())
