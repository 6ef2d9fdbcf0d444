"""`atlas`: what it prints and writes, and how it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.atlas.studies import write
from tests.cli.commands import printed, refused


def test_studies_become_a_page(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "relaxbench.db")
    monkeypatch.delenv("RELAXBENCH_STORAGE", raising=False)
    out = printed(capsys, "atlas", "--out", "here")
    assert out == "1 study, 1 row: better 1, worse 1, equivalent 1.\n\nAtlas: here/atlas.html\n"
    assert (folder / "here" / "atlas.html").is_file() and (folder / "here" / "atlas" / "cells.csv").is_file()


def test_what_is_unfinished_or_left_out_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "studies").mkdir()
    write(folder / "studies" / "a.db", finished=False)
    (folder / "studies" / "b.db").write_text("hello")
    out = printed(capsys, "atlas", "studies")
    assert "Left out: b.db: storage" in out and "Unfinished, shown as such: digits." in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.db"], "'nowhere.db' does not exist: give a folder, a database"),
        (["nodir"], "'nodir' does not exist: give a folder, a database"),
        (["."], "folder '.' holds no study"),
        (["study.toml"], "is a study file, which has no results"),
    ],
)
def test_a_wrong_place_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    line = refused(capsys, "atlas", *arguments)
    assert words in line and "--storage" not in line  # which is no option of this command
