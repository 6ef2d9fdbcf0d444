"""What the operating system refuses. Root may write anywhere, so these tests open databases as nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine

NOBODY = 65534

AS_NOBODY = """
import os, sys
from relaxbench.errors import UserError
from relaxbench.store.database import open_database
from sqlalchemy import select, text
import sqlalchemy.dialects.sqlite
if os.getuid() == 0:
    os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})
try:
    engine = open_database(sys.argv[1], **eval(sys.argv[2]))
    with engine.connect() as connection:
        print("opened", connection.execute(text("SELECT count(*) FROM relaxbench_trials")).scalar())
except UserError as error:
    print("refused", error)
"""


def as_nobody(file: Path, **options: bool) -> str:
    """What a process that owns nothing is told."""
    for folder in list(file.parents)[:-2]:
        if folder != file.parent and os.stat(folder).st_uid == os.getuid():
            folder.chmod(folder.stat().st_mode | 0o711)
    command = [sys.executable, "-c", AS_NOBODY.format(nobody=NOBODY), str(file), repr(options)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 1, done.stdout
    return done.stdout.strip()


@pytest.fixture
def closed(database: Engine, file: Path) -> Path:
    """A study's file that nobody is using."""
    database.dispose()
    return file


def test_a_read_only_file_is_refused_for_writing_and_opened_for_reading(closed: Path) -> None:
    closed.parent.chmod(0o777)
    closed.chmod(0o444)
    said = as_nobody(closed)
    assert said.startswith("refused storage") and "is read-only: make the file" in said
    assert as_nobody(closed, read_only=True) == "opened 12"
    assert "is read-only: make the file" in as_nobody(closed, create=False)


def test_a_read_only_folder_is_refused_for_writing_and_opened_for_reading(closed: Path) -> None:
    closed.chmod(0o666)
    closed.parent.chmod(0o555)
    assert "is read-only" in as_nobody(closed)
    assert as_nobody(closed, read_only=True) == "opened 12"
    assert "is not writable: use another storage" in as_nobody(closed.with_name("new.db"))
    assert os.listdir(closed.parent) == [closed.name]
    closed.parent.chmod(0o755)


def test_a_link_to_a_file_in_a_read_only_folder_is_as_that_file(closed: Path, tmp_path: Path) -> None:
    link = tmp_path / "open" / "link.db"
    link.parent.mkdir()
    link.parent.chmod(0o777)
    link.symlink_to(closed)
    closed.chmod(0o666)
    closed.parent.chmod(0o555)
    assert "is read-only" in as_nobody(link)
    assert as_nobody(link, read_only=True) == "opened 12"
    assert os.listdir(link.parent) == [link.name]
    closed.parent.chmod(0o755)


def test_an_unreadable_file_is_refused(closed: Path) -> None:
    closed.parent.chmod(0o777)
    closed.chmod(0o000)
    for options in ({}, {"read_only": True}):
        assert "is not readable: check its permissions" in as_nobody(closed, **options)
