"""`log`: what it says, what it refuses, and a tracker that fails."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from relaxbench.cli import log
from relaxbench.cli.main import main
from relaxbench.trackers import sending, tracker
from relaxbench.trackers.runs import Summary, TrackedRun
from relaxbench.trackers.tracker import Destination
from tests.cli.commands import SPEC, printed, refused
from tests.study import tiny
from tests.trackers.studies import sent_folder

pytestmark = pytest.mark.usefixtures("folder")


class Memory:
    """A tracker that keeps runs in memory, and fails when it is told to."""

    place = "memory"

    def __init__(self, room: int = 10**6) -> None:
        self.room = room
        self.runs: dict[str, TrackedRun] = {}
        self.summaries: list[Summary] = []
        self.pages: list[str] = []

    def missing(self, runs: Any) -> list[TrackedRun]:
        return [run for run in runs if run.id not in self.runs]

    def send(self, run: TrackedRun) -> None:
        if len(self.runs) >= self.room:
            raise ConnectionError("it does not answer")
        assert run.id not in self.runs
        self.runs[run.id] = run

    def summarize(self, summary: Summary) -> None:
        self.summaries.append(summary)
        self.pages += [summary.page.read_text()] if summary.page else []


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{sent_folder(tmp_path_factory) / 'study.db'}"


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    memory = Memory()
    monkeypatch.setattr(sending, "open_tracker", lambda destination: memory)
    monkeypatch.setattr(tracker, "installed", lambda module: True)
    return memory


def logged(capsys: pytest.CaptureFixture[str], storage: str, *options: str) -> str:
    return printed(capsys, "log", "--storage", storage, *options)


def test_runs_verdicts_and_report_are_sent_once(
    memory: Memory, storage: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relaxbench.cli.outcome.theory", lambda frames: {})  # seconds of numbers that are not looked at
    out = logged(capsys, storage, "--to", "mlflow", "--no-report")
    count = len(memory.runs)
    assert out == f"Sent {count} runs and the summary of study 'sent' to mlflow, memory.\n"
    assert {run.facts["phase"] for run in memory.runs.values()} == {"confirm", "recommend"} and not memory.pages
    out = logged(capsys, storage, "--to", "mlflow")
    assert out == f"Sent 0 runs and the summary of study 'sent' to mlflow, memory; {count} were there already.\n"
    assert len(memory.summaries) == 2 and "<html" in memory.pages[0]
    logged(capsys, storage, "--to", "mlflow", "--runs", "trials", "--no-report")
    assert len(memory.runs) == memory.summaries[0].step


def test_a_tracker_that_fails_is_one_line_with_what_to_do(
    memory: Memory, storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    memory.room = 4
    line = refused(capsys, "log", "sent", "--to", "wandb", "--project", "p q", "--storage", storage)
    assert "wandb, memory: it does not answer; " in line and not memory.summaries
    again = f"python -m relaxbench log sent --to wandb --project 'p q' --storage {storage}"
    assert line.rstrip().endswith(f"runs and the summary of study 'sent' not sent, send later: {again}")
    memory.room = 10**6
    assert "; 4 were there already" in logged(capsys, storage, "--to", "wandb", "--no-report")


def test_an_unfinished_study_sends_what_is_there(
    memory: Memory, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.set_engine(monkeypatch)
    tiny.run(tmp_path, SPEC, stopping=tiny.After(12), population=8)
    out = logged(capsys, "sqlite:///study.db", "--to", "mlflow", "--runs", "trials", "--no-report")
    done = len(memory.runs)
    assert 0 < done < tiny.expected(SPEC) and f"Sent {done} runs" in out
    left = tiny.expected(SPEC) - done
    assert f" {left} trials of the study are not done yet; later: python -m relaxbench log tiny --to mlflow" in out


def test_the_tracker_of_the_study_is_the_default(
    memory: Memory, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.set_engine(monkeypatch)
    track = {"to": "mlflow", "project": "mine", "runs": "trials"}
    s = tiny.spec(looks=[1], trials=1, exploit=0, recommend=0, flatness=False, track=track)
    tiny.run(tmp_path, s, population=8)
    asked: list[Destination] = []
    monkeypatch.setattr(sending, "open_tracker", lambda destination: asked.append(destination) or memory)
    logged(capsys, "sqlite:///study.db", "--no-report")
    logged(capsys, "sqlite:///study.db", "--no-report", "--runs", "winners")
    logged(capsys, "sqlite:///study.db", "--no-report", "--to", "wandb")
    assert asked == [
        Destination("mlflow", "mine", "trials"),
        Destination("mlflow", "mine", "winners"),
        Destination("wandb"),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "which tracker? study 'sent' has no table [track]: give --to mlflow, tensorboard, trackio, wandb"),
        (("--to", "mlflw"), "unknown tracker 'mlflw': did you mean 'mlflow'?"),
        (("--to", "mlflow", "--runs", "trial"), "unknown choice of runs 'trial': did you mean 'trials'?"),
        (("--to", "mlflow", "--project", ""), "project '': expected a name, such as 'relaxbench' (option --project)"),
    ],
)
def test_bad_input(options: tuple[str, ...], message: str, storage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refused(capsys, "log", *options, "--storage", storage)


@pytest.mark.parametrize("name", ["mlflow", "tensorboard", "trackio", "wandb"])
def test_a_missing_library_names_its_extra(
    name: str, storage: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker, "installed", lambda module: False)
    line = refused(capsys, "log", "--to", name, "--storage", storage)
    assert f"needs the package {name}, which is not installed: pip install 'relaxbench[{name}]'" in line


def test_a_study_that_is_not_there(storage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown study 'sen': did you mean 'sent'?" in refused(
        capsys, "log", "sen", "--to", "mlflow", "--storage", storage
    )


def test_a_password_stays_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    url, command = "postgresql+psycopg://me:secret@host/db", "python -m relaxbench log s --to mlflow"
    assert log.again_command("s", Destination("mlflow"), url) == command
    assert log.again_command("s", Destination("mlflow"), "x.db") == f"{command} --storage x.db"
    monkeypatch.setenv("RELAXBENCH_STORAGE", "x.db")
    assert log.again_command("s", Destination("mlflow"), "x.db") == command


def test_a_running_study_is_followed_to_its_end(
    memory: Memory, storage: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    niceness = os.nice(0)
    seen: list[int] = []
    left = iter([5, 3, 0, 0])
    monkeypatch.setattr(log, "_missing_trials", lambda *arguments: seen.append(len(memory.runs)) or next(left))
    monkeypatch.setattr(log, "EVERY", 0.0)
    monkeypatch.setattr(log, "SHARE", 0)
    out = logged(capsys, storage, "--to", "mlflow", "--follow", "--no-report")
    count = len(memory.runs)
    assert seen == [0, count, count, count] and f"Sent {count} runs and the summary" in out
    assert os.nice(0) == niceness and main(["log", "--storage", storage]) == 2
