"""`study` without `--workers` uses all cores of the CPU where that is worth it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relaxbench.cli import supervise
from relaxbench.cli.main import main
from relaxbench.cli.supervise import LocalWorkers
from relaxbench.store.database import open_database
from relaxbench.study.execution import processes
from relaxbench.study.execution.options import RunOptions
from relaxbench.study.execution.run import StudyRun, Summary
from tests.cli.commands import SPEC
from tests.study import tiny

pytestmark = pytest.mark.usefixtures("study_file")


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would run: the worker processes, or the options of a session in this process."""
    calls: list[Any] = []
    monkeypatch.setattr(processes, "cores", lambda: 3)
    monkeypatch.setattr(supervise, "supervise", lambda run, opened, local, *_: calls.append(local) or complete())
    monkeypatch.setattr(StudyRun, "work", lambda self, opened: calls.append(self.options) or complete())
    return calls


def complete() -> Summary:
    return Summary(1, True, 0, 0, 0, 0, False, 0.0)


@pytest.mark.parametrize("device", [(), ("--device", "cpu")])
def test_a_long_study_has_a_worker_of_one_thread_per_core(
    device: tuple[str, ...], called: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(processes, "WORTH_SECONDS", 0.0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["study", "tiny.toml", "--storage", "s.db", "--no-report", "--quiet", *device]) == 0
    (local,) = called
    assert isinstance(local, LocalWorkers) and (local.workers, local.threads, local.place.type) == (3, 1, "cpu")
    assert [place.device for place in local.places(Path(), "w")] == ["cpu"] * 3


def test_a_short_study_runs_here_with_the_threads_that_a_worker_would_have(
    called: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["study", "tiny.toml", "--storage", "s.db", "--no-report", "--quiet"]) == 0
    (options,) = called
    assert isinstance(options, RunOptions) and options.threads == 1


def test_a_study_that_began_with_several_threads_keeps_them(called: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from relaxbench.study.coordination.manifest import edit_manifest

    database = open_database("s.db")
    tiny.settle(database, SPEC)

    def of_three_threads(manifest: Any) -> None:
        for engine in manifest["engines"].values():
            engine["threads"] = 3

    edit_manifest(database, 1, of_three_threads)
    database.dispose()
    monkeypatch.setattr(processes, "WORTH_SECONDS", 0.0)
    assert main(["study", "tiny.toml", "--storage", "s.db", "--no-report", "--quiet"]) == 0
    (options,) = called
    assert isinstance(options, RunOptions) and options.threads == 3
