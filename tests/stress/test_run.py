"""The figures of `stress` as a file, in a folder that is created for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relaxbench.stress import run as module
from relaxbench.stress.faults import Survived
from relaxbench.stress.run import StressOptions, run


class NoServer:
    """In place of PostgreSQL, which these tests do not need."""

    def start(self) -> None: ...

    def remove(self) -> None: ...


def test_figures_are_written_into_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def suffer(fault: str, backend: str, *_: object) -> Survived:
        return Survived(fault, backend, times=1, restarts=2, seconds=3.0, wrong=[])

    monkeypatch.setattr(module, "Server", NoServer)
    monkeypatch.setattr(module, "reference", lambda folder: ([], None))
    monkeypatch.setattr(module, "suffer", suffer)
    file = tmp_path / "new" / "folder" / "x.json"
    list(run(StressOptions(("kill",), json=file), lambda what: None))
    faults = json.loads(file.read_text())["faults"]
    assert [(each["fault"], each["backend"], each["restarts"]) for each in faults] == [
        ("kill", "SQLite", 2),
        ("kill", "PostgreSQL", 2),
    ]
