"""A study with [track]: it sends its runs while it goes on, and ends in the same way whatever the tracker does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from relaxbench.cli import tracking
from relaxbench.cli.tracking import Tracking
from relaxbench.trackers.tracker import Destination
from tests.cli.commands import STUDY, printed, refused, rows
from tests.study import tiny

pytestmark = pytest.mark.usefixtures("folder")

RUN = ("study", "mine.toml", "--population", "8", "--no-report")
LATER = "Send it later: python -m relaxbench log tiny --to tensorboard"


def test_a_study_sends_its_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard", reason="needs pip install 'relaxbench[tensorboard]'")
    tiny.set_engine(monkeypatch)
    Path("mine.toml").write_text(f'{STUDY}[track]\nto = "tensorboard"\nruns = "trials"\nwhere = "tb"\n')
    out = printed(capsys, *RUN)
    done = [row for row in rows("relaxbench.db") if row.status == "done"]
    assert f"Sent {len(done)} runs and the summary of study 'tiny' to tensorboard, tb/relaxbench." in out
    assert len(list(Path("tb").rglob("events*"))) == len(done) + 1


def test_a_missing_library_is_told_before_anything_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relaxbench.trackers.tracker.installed", lambda module: False)
    Path("mine.toml").write_text(f'{STUDY}[track]\nto = "wandb"\n')
    assert "pip install 'relaxbench[wandb]'" in refused(capsys, *RUN)


def followed(monkeypatch: pytest.MonkeyPatch, program: str, quiet: bool = False) -> list[str]:
    """What is said of a process that runs this program in place of `log --follow`."""
    said: list[str] = []
    Path("python").write_text(f"#!{sys.executable}\nimport sys, time\n{program}\n")
    Path("python").chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(tracking.sys, "executable", str(Path("python").absolute()))
        with Tracking(Destination("tensorboard"), "sqlite:///relaxbench.db", said.append, quiet) as following:
            following.start("tiny")
            following.page = Path("tiny.html")
    return said


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("print('noise'); print('Sent 3 runs to ' + sys.stdin.read())", "Sent 3 runs to {page}"),
        ("sys.stdin.read(); sys.exit('relaxbench: it is full; send later: x')", "it is full; send later: x"),
        ("sys.exit(7)", f"Sending to tensorboard ended with code 7. {LATER}"),
    ],
)
def test_its_last_words_are_told(monkeypatch: pytest.MonkeyPatch, program: str, said: str) -> None:
    assert followed(monkeypatch, program) == [said.format(page=Path("tiny.html").absolute())]


def test_a_tracker_that_hangs_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "SOON", 0.05)
    monkeypatch.setattr(tracking, "PATIENCE", 0.05)
    said = followed(monkeypatch, "time.sleep(600)")
    assert said == [
        "Sending the rest to tensorboard (Ctrl-C ends it) ...",
        f"Not all was sent to tensorboard. {LATER}",
    ]


def test_a_process_that_cannot_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(tracking.sys, "executable", "/nowhere/python")
        with Tracking(Destination("tensorboard"), "sqlite:///relaxbench.db", said.append) as following:
            following.start("tiny")
    assert said == [f"Nothing is sent to tensorboard: No such file or directory. {LATER}"]


def test_quiet_tells_failures_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert followed(monkeypatch, "sys.stdin.read(); print('Sent 3 runs')", quiet=True) == []
    assert followed(monkeypatch, "sys.exit('relaxbench: it is full')", quiet=True) == ["it is full"]


def test_without_a_tracker_nothing_starts() -> None:
    said: list[str] = []
    with Tracking(None, "sqlite:///relaxbench.db", said.append) as following:
        following.start("tiny")
    assert said == []
