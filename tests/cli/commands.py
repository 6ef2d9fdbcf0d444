"""What tests of commands share: run one in this process or in its own, and read what it left."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from relaxbench.cli.main import main
from relaxbench.store.database import open_database
from relaxbench.store.schema import Trial
from tests.processes import Forked
from tests.study import tiny

STUDY = """
name = "tiny"
problems = ["rosenbrock"]
methods = ["sgd", "heat"]
looks = [6]
trials = 1
exploit = 2
recommend = 2
budget = 40
flatness = false
"""


PROBLEM = """
import torch
from relaxbench.problems import SupervisedProblem

x = torch.arange(120.0).view(40, 3).sin()
y = (x.sum(1) > 0).long()
splits = {s: (x, y) for s in ("train", "validation", "test")}
"""


SPEC = tiny.spec(budget=120, looks=[6], trials=1, exploit=4, flatness=False)
"""Long enough to be disturbed: 2 × (6 + 6 + 4 + 2) = 36 trials. Flatness has tests of its own; importing what measures
it takes each process 2 s."""


@contextlib.contextmanager
def nothing_written() -> Iterator[None]:
    """The folder, its files and their contents stay as they were."""

    def contents() -> dict[Path, bytes | None]:
        hidden = ("__pycache__", "-wal", "-shm")  # SQLite's own, while a connection is open
        found = [path for path in Path().rglob("*") if not str(path).endswith(hidden) and hidden[0] not in path.parts]
        return {path: path.read_bytes() if path.is_file() else None for path in found}

    before = contents()
    yield
    assert contents() == before


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on the error stream of a command that is refused; it leaves nothing behind."""
    with nothing_written():
        assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1 and err.startswith("relaxbench: ") and "Traceback" not in err + out
    return err


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that must succeed prints."""
    code = main(list(arguments))
    out, err = capsys.readouterr()
    assert code == 0, err
    assert err == ""
    return out


def command(*arguments: str, cwd: Path | None = None) -> Forked:
    """A command in a process of its own."""
    line = ["-m", "relaxbench", *arguments]
    return Forked(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), cwd=cwd)


def environment() -> dict[str, str]:
    """The environment of a command in a process of its own."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "NO_COLOR": "1", "COLUMNS": "300"}


def rows(file: str) -> list[Any]:

    database = open_database(file, create=False, read_only=True)
    with database.connect() as connection:
        found = list(connection.execute(select(Trial.__table__).order_by(Trial.id)))
    database.dispose()
    return found
