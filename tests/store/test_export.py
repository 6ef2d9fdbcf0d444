"""A study in a file of its own: one file, whole or not there; and whatever else is imported is refused in one line."""

from __future__ import annotations

import os
import random
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from relaxbench.errors import UserError
from relaxbench.store.database import open_database
from relaxbench.store.export import export_study, open_export
from relaxbench.store.transfer import Copied, copy_study, study_to_copy
from tests.store import studies
from tests.store.migrations import version_1

ROOT = Path(__file__).parents[2]


@pytest.fixture
def source(file: Path) -> Iterator[Engine]:
    engine = open_database(str(file))
    studies.add(engine, "other", 5, seed=3)
    studies.add(engine, "s")
    yield engine
    engine.dispose()


@pytest.fixture
def exported(source: Engine, tmp_path: Path) -> Path:
    """A study in a file in a folder of its own."""
    out = tmp_path / "out" / "s.db"
    out.parent.mkdir()
    export_study(source, out, "s")
    return out


def test_a_study_and_nothing_else_is_in_one_file(source: Engine, exported: Path) -> None:
    assert os.listdir(exported.parent) == ["s.db"]
    plain = sqlite3.connect(exported)
    assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert plain.execute("PRAGMA journal_mode").fetchall() == [("delete",)]
    assert plain.execute("SELECT name FROM relaxbench_studies").fetchall() == [("s",)]
    assert plain.execute("SELECT count(*) FROM relaxbench_trials").fetchall() == [(12,)]
    plain.close()
    engine = open_export(exported)
    there, here = studies.told(engine, "s"), studies.told(source, "s")
    engine.dispose()
    blobs = ("correct", "curve", "weights", "params", "seed", "value")
    assert [[row[k] for k in blobs] for row in there["trials"]] == [[row[k] for k in blobs] for row in here["trials"]]
    assert os.listdir(exported.parent) == ["s.db"]  # reading leaves nothing beside it


def test_a_file_comes_back_as_a_study(source: Engine, exported: Path) -> None:
    engine = open_export(exported)
    assert study_to_copy(engine) == "s"
    assert copy_study(engine, source, "s", "back") == Copied("back", trials=12, done=3, curves=3, weights=2, workers=2)
    engine.dispose()
    origin = studies.told(source, "back")["study"]["manifest"]["copied_from"]
    assert origin["name"] == "s" and origin["key"] != "key of s"  # the file's, which is a copy itself


def test_a_file_is_imported_from_where_nothing_can_be_written(exported: Path) -> None:
    """As from a CD: by somebody who may not write into the folder."""
    exported.chmod(0o444)
    exported.parent.chmod(0o555)
    for folder in exported.parents[1:-2]:
        if folder.stat().st_uid == os.getuid():
            folder.chmod(folder.stat().st_mode | 0o711)
    script = (
        "import os, sys\n"
        "import sqlalchemy.dialects.sqlite, relaxbench.store.export\n"
        "if os.getuid() == 0:\n    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "assert not os.access(os.path.dirname(sys.argv[1]), os.W_OK)\n"
        "from pathlib import Path\n"
        "print(relaxbench.store.transfer.study_to_copy(relaxbench.store.export.open_export(Path(sys.argv[1]))))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(exported)], capture_output=True, text=True, cwd=ROOT)
    exported.parent.chmod(0o755)
    assert done.stdout == "s\n", done.stderr


# What is refused.


def test_no_file_is_overwritten(source: Engine, tmp_path: Path) -> None:
    taken, link = tmp_path / "taken.db", tmp_path / "link.db"
    taken.write_text("mine")
    link.symlink_to("nowhere")
    before = set(os.listdir(tmp_path))
    for path in (taken, link):
        with pytest.raises(UserError, match="already exists: choose another name, or remove it first"):
            export_study(source, path, "s")
    with pytest.raises(UserError, match=r"is a folder: name a file in it, e\.g\. '.*/study.db'"):
        export_study(source, tmp_path, "s")
    assert taken.read_text() == "mine" and set(os.listdir(tmp_path)) == before


def test_a_folder_that_cannot_be_written_is_named_and_no_file_of_ours(source: Engine) -> None:
    with pytest.raises(UserError) as error:
        export_study(source, Path("/proc/study.db"), "s")
    assert re.fullmatch(
        r"file '/proc/study.db' cannot be written \([A-Za-z ]+\): check its folder, .*", str(error.value)
    )


def test_a_file_that_appears_meanwhile_is_not_overwritten(
    source: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from relaxbench.store import export

    out = tmp_path / "out.db"

    def make_single(file: Path) -> None:
        out.write_text("quicker")

    monkeypatch.setattr(export, "make_single", make_single)
    with pytest.raises(UserError, match="already exists"):
        export_study(source, out, "s")
    assert out.read_text() == "quicker"


def test_an_export_that_fails_leaves_nothing_behind(source: Engine, tmp_path: Path) -> None:
    before = set(os.listdir(tmp_path))
    with pytest.raises(UserError, match="unknown study 'x'"):
        export_study(source, tmp_path / "out.db", "x")
    with pytest.raises(UserError, match="does not exist: create it first"):
        export_study(source, tmp_path / "no" / "out.db", "s")
    with pytest.raises(UserError, match=r"file '/proc/out.db' cannot be written \("):
        export_study(source, Path("/proc/out.db"), "s")
    with source.begin() as connection:
        connection.execute(text("UPDATE relaxbench_trials SET parent = 999 WHERE parent != 0"))
    with pytest.raises(UserError, match="names a parent 999"):
        export_study(source, tmp_path / "out.db", "s")
    assert {name for name in os.listdir(tmp_path) if not name.endswith(("-wal", "-shm"))} == before - {
        name for name in before if name.endswith(("-wal", "-shm"))
    }


def refusal(file: Path) -> str:
    with pytest.raises(UserError) as error:
        open_export(file)
    assert "\n" not in str(error.value) and str(error.value).startswith(f"file {str(file)!r} ")
    return str(error.value)


def test_a_file_that_is_no_export_is_refused(tmp_path: Path) -> None:
    assert "does not exist: give a file that python -m relaxbench export has written" in refusal(tmp_path / "x.db")
    assert "cannot be imported: " in refusal(tmp_path)
    text_file, empty, foreign = (tmp_path / name for name in ("a.txt", "empty.db", "foreign.db"))
    text_file.write_text("somebody's diary")
    assert "is not a SQLite database" in refusal(text_file)
    empty.touch()
    assert "holds no relaxbench study" in refusal(empty)
    with sqlite3.connect(foreign) as other:
        other.execute("CREATE TABLE studies (study_id INTEGER)")
    other.close()
    assert "holds no relaxbench study" in refusal(foreign)


def test_a_file_of_an_older_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "old.db"
    engine = create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        version_1.make(connection)
    engine.dispose()
    assert f"sqlite:///{file}" in refusal(file) and "python -m relaxbench upgrade" in refusal(file)


def test_a_truncated_file_is_refused(exported: Path) -> None:
    whole = exported.read_bytes()
    for share in (0.3, 0.6, 0.9):
        exported.write_bytes(whole[: int(len(whole) * share)])
        assert "cannot be imported: " in (said := refusal(exported)) or "is damaged (" in said


def test_no_damage_ends_in_a_traceback(exported: Path, tmp_path: Path) -> None:
    """Bytes changed anywhere: the copy is refused in one line, or made (of an array, any bytes will do)."""
    whole, draw, said = exported.read_bytes(), random.Random(0), list[str]()
    for number in range(150):
        damaged = bytearray(whole)
        for _ in range(draw.choice([1, 3, 30])):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        exported.write_bytes(damaged)
        target = open_database(str(tmp_path / "target.db"))
        try:
            source = open_export(exported)
            try:
                copy_study(source, target, study_to_copy(source), f"copy {number}")
            finally:
                source.dispose()
        except UserError as error:
            said.append(str(error))
        target.dispose()
    assert 0 < len(said) < 150 and not any("\n" in line for line in said)
