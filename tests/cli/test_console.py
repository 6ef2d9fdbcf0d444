"""Output in any encoding: characters that it lacks are replaced, and nothing fails."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys

import pytest

from relaxbench.cli.console import console
from relaxbench.cli.main import main
from tests.processes import Forked

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_characters_that_an_encoding_lacks_are_replaced(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert main(["study", "--method", "γ-sgd"]) == 2
    assert main(["--version"]) == 0
    console.print("γ ≤ 1 → “better” ✓")
    for stream in (out, err):
        stream.flush()
    printed, told = (stream.buffer.getvalue().decode(encoding) for stream in (out, err))  # type: ignore[attr-defined]
    assert "unknown method" in told and "sgd" in told
    shown = "γ ≤ 1 → “better” ✓".encode(encoding, "replace").decode(encoding)
    assert shown in printed
    assert ("?" in shown) == (encoding != "utf-8")


@pytest.mark.parametrize("command", [("list",), ("list", "--json"), ("--help",)])
def test_a_reader_that_has_seen_enough_ends_a_command_without_a_word(command: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)  # as `head` does after its last line
    with open(write, "w") as stream:
        process = Forked(["-m", "relaxbench", *command], stdout=stream, stderr=subprocess.PIPE)
        assert process.communicate(timeout=60)[1] == "" and process.wait() == 1


def test_a_warning_is_one_line_however_many_commands_a_process_ran(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == main(["--version"]) == 0
    capsys.readouterr()
    logging.getLogger("relaxbench.store").warning("the disk is full")
    assert capsys.readouterr().err == "relaxbench: the disk is full\n"
