"""What is sent of a study: every run once, under an identity that no other run has and that does not change."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import update

from relaxbench.analysis.findings import Findings
from relaxbench.analysis.frames import StudyFrames, load_study
from relaxbench.store.database import open_database
from relaxbench.store.schema import Trial
from relaxbench.trackers.runs import Summary, TrackedRun, summary_of, tracked_runs
from tests.study import tiny
from tests.trackers.studies import assert_same, wanted

ALL = ("explore", "confirm", "exploit", "recommend")


def series(run: TrackedRun) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for step, values in run.rows:
        for name, value in values.items():
            found.setdefault(name, {})[step] = value
    return found


@pytest.mark.parametrize(("which", "phases"), [("winners", ("confirm", "recommend")), ("trials", ALL)])
def test_runs_are_those_of_the_database(sent_study: Path, frames: StudyFrames, which: str, phases: tuple[str]) -> None:
    runs, rows = list(tracked_runs(frames, which)), wanted(sent_study, phases)  # type: ignore[arg-type]
    assert len(runs) == len(rows) == len({run.id for run in runs}) == len({run.name for run in runs})
    for run, row in zip(runs, rows, strict=True):
        assert tuple(run.facts[key] for key in ("problem", "method", "phase", "block", "number")) == row.place
        assert run.params == row.params and run.end == max(row.curve["train_loss"])
        assert_same(series(run), row)


def test_an_unfinished_run_is_not_sent_and_others_keep_their_identity(sent_study: Path, tmp_path: Path) -> None:
    shutil.copy(sent_study / "study.db", tmp_path / "study.db")
    before = {run.id: run.facts for run in tracked_runs(load_study(str(tmp_path / "study.db")), "trials")}
    database = open_database(str(tmp_path / "study.db"))
    with database.begin() as connection:
        connection.execute(update(Trial).where(Trial.id == 1).values(status="waiting"))
    database.dispose()
    after = {run.id: run.facts for run in tracked_runs(load_study(str(tmp_path / "study.db")), "trials")}
    assert len(after) == len(before) - 1 and after.items() <= before.items()


def test_another_study_has_other_identities(
    tmp_path: Path, frames: StudyFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.set_engine(monkeypatch)
    same = {"exploit": 0, "recommend": 0, "flatness": False}
    tiny.run(tmp_path, tiny.spec(name="sent", looks=[1], trials=1, **same), population=8)
    other = list(tracked_runs(load_study(str(tmp_path / "study.db")), "trials"))
    known = {run.id for run in tracked_runs(frames, "trials")}
    assert other and not known & {run.id for run in other}


def test_the_summary_has_verdicts_and_the_bill(summary: Summary, frames: StudyFrames, sent_study: Path) -> None:
    results = {result.method: result for result in Findings.of(frames).results}
    comparison = results["heat"].against("baseline")
    assert comparison is not None
    assert summary.numbers["verdict/rosenbrock/heat/ratio"] == comparison.ratio
    assert [line for line in summary.sentences if line.startswith("SGD is the baseline")]
    assert summary.step == len(frames.trials) and summary.facts["methods"] == "sgd, heat"
    bill = summary.ledger.set_index("method")
    for phase in ALL:
        for method in ("sgd", "heat"):
            billed = sum(row.gradients for row in wanted(sent_study, (phase,)) if row.place[1] == method)
            assert bill.loc[method, phase] == billed > 0
    assert np.isfinite(bill["measurement"]).all() and summary.tables["verdicts"]["method"].tolist() == ["sgd", "heat"]


def test_an_empty_study_has_a_summary(tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "study.db"))
    tiny.settle(database, tiny.spec())
    frames = load_study(database)
    assert list(tracked_runs(frames, "trials")) == []
    assert summary_of(Findings.of(frames)).step == 0
    database.dispose()
