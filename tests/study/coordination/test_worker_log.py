"""What a worker says in its log is told from all else that is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from relaxbench.store.transactions import NO_SPACE
from relaxbench.study.coordination.worker_log import last_words, said, say


def test_only_whole_lines_for_people_are_heard_and_each_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    say("K is halved:\n  memory")
    line = capsys.readouterr().err
    log = tmp_path / "log"
    log.write_text(f"a warning of another library\n{line}{line[:9]}")
    lines, heard = said(log, 0)
    assert lines == ["K is halved: memory"]
    assert said(log, heard) == ([], heard)
    with log.open("a") as file:
        file.write(f"{line[9:]}a crash")
    assert said(log, heard)[0] == ["K is halved: memory"]
    assert said(tmp_path / "nowhere", 0) == ([], 0)


TRACE = 'Traceback (most recent call last):\n  File "a.py", line 3, in step\n    fail()\n'


def test_that_there_is_no_space_is_for_people(tmp_path: Path) -> None:
    log = tmp_path / "log"
    full = f"{NO_SPACE} (database or disk is full): free some; trying for 15.0 min"
    log.write_text(f"relaxbench: {full}\nrelaxbench: the database answers again, after 3 s\n")
    assert said(log, 0)[0] == [full]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("before\nTypeError: wrong\n", "TypeError: wrong"),
        ("TypeError: wrong\nrelaxbench says: trial 3 begins anew\n", "TypeError: wrong"),
        ("relaxbench says: trial 3 begins anew\n", ""),
        (f"{TRACE}RuntimeError: out of luck\nCompile with X\n\nfor more\n", "RuntimeError: out of luck"),
        (f"{TRACE}OSError: a\n\nDuring this:\n\n{TRACE}ValueError: b\nmore\n", "ValueError: b"),
        (f"{TRACE}OSError: a\nrelaxbench: the disk is full\n", "relaxbench: the disk is full"),
        ("RuntimeError: " + "x" * 500, "RuntimeError: " + "x" * 186),
        ("", ""),
    ],
)
def test_last_words_are_no_line_for_people(tmp_path: Path, text: str, words: str) -> None:
    log = tmp_path / "log"
    log.write_text("of an earlier worker\n" + text)
    assert last_words(log, len("of an earlier worker\n")) == words


def test_a_worker_outlives_a_full_disk_on_which_its_log_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stderr", full)
        say("K is halved")
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space"):
            full.close()
