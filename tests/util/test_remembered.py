"""Facts that are kept for the next time, and files that are no such facts."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path

import pytest

from relaxbench.util import remembered
from relaxbench.util.remembered import recall, remember

KEY = {"torch": "2.15", "sizes": (8, 16)}


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "KEPT_DAYS", 30.0)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 0.5, 0.5))


def test_facts_are_kept_under_their_key_alone_until_they_are_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "new" / "cache"
    assert recall(folder, "engine", KEY) is None
    remember(folder, "engine", KEY, {"population": 8})
    today = dt.datetime.now(dt.UTC).date()
    facts, day = recall(folder, "engine", KEY) or ({}, "")
    assert facts == {"population": 8} and 0 <= (today - dt.date.fromisoformat(day)).days <= 1
    assert recall(folder, "cost", KEY) is None and recall(folder, "engine", {**KEY, "torch": "2.16"}) is None
    (file,) = folder.iterdir()
    stored = json.loads(file.read_text())
    for age in (31 * 86_400, -3600):  # too old; of a clock that was wrong
        file.write_text(json.dumps({**stored, "at": stored["at"] - age}))
        assert recall(folder, "engine", KEY) is None


def test_what_a_busy_machine_measures_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "cores", lambda: 4)
    for load, kept in ((8.1, False), (7.9, True)):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, 0.0, 0.0))
        remember(tmp_path, "engine", KEY, {"population": 8})
        assert (recall(tmp_path, "engine", KEY) is not None) == kept


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"facts": 3, "at": 1}', '{"facts": {}, "at": "x"}', "\x00"])
def test_a_damaged_file_is_no_memory_and_is_replaced(tmp_path: Path, text: str) -> None:
    remember(tmp_path, "engine", KEY, {"population": 8})
    (file,) = tmp_path.iterdir()
    file.write_text(text)
    assert recall(tmp_path, "engine", KEY) is None
    remember(tmp_path, "engine", KEY, {"population": 16})
    assert (recall(tmp_path, "engine", KEY) or ({},))[0] == {"population": 16}


def test_a_folder_that_cannot_be_made_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    remember(tmp_path / "file" / "cache", "engine", KEY, {"population": 8})
    assert recall(tmp_path / "file" / "cache", "engine", KEY) is None
