"""Checkpoint files: whole or not there; and a disk that is full stops no trial."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from relaxbench.study.coordination.checkpoints import Checkpoints

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "deep" / "folder", "key")


def names(checkpoints: Checkpoints) -> list[str]:
    return sorted(path.name for path in checkpoints.folder.glob("*"))


def test_what_was_saved_is_loaded_and_can_be_removed(checkpoints: Checkpoints) -> None:
    assert checkpoints.load(7) is None and not checkpoints.folder.exists()
    checkpoints.save(7, b"seven")
    checkpoints.save(8, b"eight")
    checkpoints.save(7, b"")
    assert (checkpoints.load(7), checkpoints.load(8)) == (b"", b"eight") and names(checkpoints) == [
        "key-7.pt",
        "key-8.pt",
    ]
    other = Checkpoints(checkpoints.folder, "other")  # of another study in the same folder
    assert other.load(8) is None
    checkpoints.remove(8)
    checkpoints.remove(9)
    assert names(checkpoints) == ["key-7.pt"]


@pytest.mark.parametrize("place", ["write", "fsync", "replace"])
def test_where_writing_fails_the_one_before_stays_and_nothing_is_left(
    place: str, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk, at any point; said once, and again when it has been well in between."""
    checkpoints.save(1, b"before")

    def fail(*_: object, **__: object) -> None:
        raise FULL

    def open_(path: Path, mode: str) -> None:
        if path.suffix == ".part":
            raise FULL

    broken = {"write": (Path, "open", open_), "fsync": (os, "fsync", fail), "replace": (Path, "replace", fail)}
    with monkeypatch.context() as patch:
        patch.setattr(*broken[place])
        for trial in (1, 2, 1):
            checkpoints.save(trial, b"after")
    assert names(checkpoints) == ["key-1.pt"] and checkpoints.load(1) == b"before"
    (record,) = caplog.records
    assert record.message == (
        f"checkpoints cannot be written to {str(checkpoints.folder)!r} (No space left on device): trials go on "
        "without, and start again after a stop; make room there, or make it writable"
    )
    checkpoints.save(1, b"after")
    assert checkpoints.load(1) == b"after"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        checkpoints.save(1, b"later")
    assert len(caplog.records) == 2


def test_a_folder_that_cannot_be_made_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    checkpoints = Checkpoints(tmp_path / "file" / "folder", "key")
    checkpoints.save(1, b"data")
    checkpoints.save(2, b"data")
    assert checkpoints.load(1) is None
    checkpoints.remove(1)
    checkpoints.clear()
    assert len(caplog.records) == 1 and "Not a directory" in caplog.text


def test_what_a_killed_supervisor_left_goes_with_the_study_s_end_unless_something_was_said(
    checkpoints: Checkpoints,
) -> None:
    checkpoints.save(1, b"data")
    for name, words in (("key-worker-7-1", ""), ("key-worker-7-2", "CUDA error"), ("other-worker-7-1", "")):
        (checkpoints.folder / f"{name}.log").write_text(words)
    checkpoints.clear()
    assert names(checkpoints) == ["key-worker-7-2.log", "other-worker-7-1.log"]


@pytest.mark.skipif(os.getuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_is_not_writable_stops_nothing(
    checkpoints: Checkpoints, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints.save(1, b"data")
    checkpoints.folder.chmod(0o500)
    checkpoints.save(1, b"more")
    checkpoints.remove(1)
    checkpoints.folder.chmod(0o700)
    assert checkpoints.load(1) == b"data" and "Permission denied" in caplog.text


def test_of_a_complete_study_nothing_is_left_but_what_its_workers_said(checkpoints: Checkpoints) -> None:
    other = Checkpoints(checkpoints.folder, "key2")
    for each in (checkpoints, other):
        each.save(1, b"data")
    for name in ("key-2.99.part", "key-worker-1-1.log", "mine.txt"):  # of a process that was killed while it wrote
        (checkpoints.folder / name).write_text("x")
    checkpoints.clear()
    assert names(checkpoints) == ["key-worker-1-1.log", "key2-1.pt", "mine.txt"]
