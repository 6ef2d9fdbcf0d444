"""What the system and the disk refuse is one line with what to do; a bug of ours keeps its traceback."""

from __future__ import annotations

import errno
import os
import sqlite3

import pytest
from sqlalchemy.exc import OperationalError

from relaxbench.cli import main as module
from relaxbench.cli.main import main


def disk_error(code: int, message: str) -> Exception:
    cause = sqlite3.OperationalError(message)
    cause.sqlite_errorcode = code
    return OperationalError("SELECT 1", {}, cause)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (disk_error(sqlite3.SQLITE_IOERR | 8 << 8, "disk I/O error"), "disk I/O error): check the disk"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x.pt"), "'x.pt': No space left on device; free some space"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), "Input/output error; check the disk"),
        (
            PermissionError(errno.EACCES, os.strerror(errno.EACCES), "y"),
            "'y': Permission denied; change its permissions",
        ),
    ],
)
def test_what_the_system_refuses_is_one_line(
    error: Exception, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(module, "_program", lambda: refuse)
    assert main(["list"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and told in err and err.count("\n") == 1


@pytest.mark.parametrize("error", [ValueError("ours"), FileNotFoundError(errno.ENOENT, "ours")])
def test_a_bug_is_not_hidden(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(module, "_program", lambda: fail)
    with pytest.raises(type(error), match="ours"):
        main(["list"])


def test_a_nul_character_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["show", "--storage", "a\0.db"], ["study", "a\0.toml"], ["best", "a\0", "sgd"]):
        assert main(arguments) == 2
        assert "contains a NUL character" in capsys.readouterr().err
