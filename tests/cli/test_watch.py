"""A session that other processes work for says what is special of the study, also where nothing is left to do."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from relaxbench.cli.progress import Display
from relaxbench.cli.watch import Watch
from relaxbench.store.database import open_database
from relaxbench.study.definition.opening import open_study
from relaxbench.study.definition.prepare import prepare
from relaxbench.study.execution.run import StudyRun
from tests.study import tiny


def test_notes_of_a_finished_study_are_said_and_no_worker_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tiny.spec(methods=["sgd", "lookahead"], looks=[1], exploit=0, recommend=0)
    tiny.run(tmp_path, spec)
    database = open_database(str(tmp_path / "study.db"))
    opened = replace(open_study(database, spec, "source", prepare(spec)), notes=("`own.py` is not as it was",))
    with Display(Console(), spec) as display:
        summary = Watch(StudyRun(database), opened, display).over(lambda: pytest.fail("a worker starts"))
    database.dispose()
    assert summary.ran == 0 and summary.missing == 0
    assert "`own.py` is not as it was" in capsys.readouterr().out


def test_a_watch_that_was_stopped_for_hours_shows_progress_again_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny.spec(methods=["sgd", "lookahead"], looks=[1], exploit=0, recommend=0)
    tiny.run(tmp_path, spec)
    database = open_database(str(tmp_path / "study.db"))
    opened, shown, clock = open_study(database, spec, "source", prepare(spec)), list[float](), [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with Display(Console(), spec, quiet=True) as display:
        watch = Watch(StudyRun(database), opened, display)

        def stopped_for_hours(*_: object) -> None:
            shown.append(clock[0])
            clock[0] += 3 * 3600.0

        monkeypatch.setattr(display, "update", stopped_for_hours)
        watch.tick()
        for _ in range(40):
            clock[0] += 1.0
            watch.tick()
    database.dispose()
    assert shown == [0.0, 3 * 3600.0 + 30.0]
