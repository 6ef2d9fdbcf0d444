"""Trackio's local database, read back by Trackio."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from relaxbench.errors import UserError
from relaxbench.trackers.runs import Summary, TrackedRun
from relaxbench.trackers.sending import Sending
from relaxbench.trackers.tracker import Destination
from tests.trackers.studies import assert_same, wanted

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what it imports
    pytest.importorskip("trackio", reason="needs pip install 'relaxbench[trackio]'")

pytestmark = pytest.mark.filterwarnings("ignore")


def rows(project: str, name: str) -> list[dict[str, Any]]:
    from trackio.sqlite_storage import SQLiteStorage

    return SQLiteStorage.get_logs(project, name)


def test_an_interrupted_log_continues_and_runs_are_read_back(
    sent_study: Path, runs: list[TrackedRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trackio import run as library
    from trackio.sqlite_storage import SQLiteStorage

    destination, some = Destination("trackio", project=f"p-{tmp_path.name}"), runs[:3]
    with monkeypatch.context() as patch:  # half the points of the second run are there
        calls, log = [len(some[0].rows) + 3], library.Run.log

        def refuse(self: Any, values: Any, step: int | None = None) -> None:
            calls[0] -= 1
            if calls[0] < 0:
                self.finish()
                raise OSError(28, "No space left on device")
            log(self, values, step=step)

        patch.setattr(library.Run, "log", refuse)
        broken = Sending(destination)
        broken.send(some)
    assert (broken.sent, broken.left) == (1, 2) and "No space left" in broken.reason
    for present in (1, 3):
        whole = Sending(destination)
        whole.send(some)
        assert (whole.sent, whole.present, whole.reason) == (3 - present, present, "")
    assert sorted(SQLiteStorage.get_runs(destination.project)) == sorted(run.name for run in some)
    for run, row in zip(some, wanted(sent_study, ("confirm", "recommend")), strict=False):
        series: dict[str, dict[int, float]] = {}
        for point in rows(destination.project, run.name):
            for name, value in point.items():
                if name not in ("step", "timestamp"):
                    series.setdefault(name, {})[point["step"]] = value
        assert_same(series, row)
        config = SQLiteStorage.get_run_config(destination.project, run.name)
        assert {name: config[name] for name in row.params} == row.params


def test_the_summary_is_one_run(summary: Summary, tmp_path: Path) -> None:
    from trackio.sqlite_storage import SQLiteStorage

    project = f"s-{tmp_path.name}"
    for _ in range(2):
        sending = Sending(Destination("trackio", project=project))
        sending.summarize(summary)
        assert sending.reason == ""
    (name,) = SQLiteStorage.get_runs(project)
    (row,) = rows(project, name)
    assert row["verdict/rosenbrock/heat/ratio"] == summary.numbers["verdict/rosenbrock/heat/ratio"]
    assert row["step"] == summary.step


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trackio reads the folder of its databases when it is imported: these tests leave theirs where it lies."""
    from trackio import sqlite_storage, utils

    for module in (sqlite_storage, utils):
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "trackio")


@pytest.mark.parametrize("variable", ["TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"])
def test_another_place_is_refused(variable: str, runs: list[TrackedRun], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "somewhere")
    with pytest.raises(UserError, match=f"{variable} is set"):
        Sending(Destination("trackio")).send(runs)
