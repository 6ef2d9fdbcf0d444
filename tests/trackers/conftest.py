"""A study that every tracker gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from relaxbench.analysis.findings import Findings
from relaxbench.analysis.frames import StudyFrames, load_study
from relaxbench.trackers.runs import Summary, TrackedRun, summary_of, tracked_runs
from tests.trackers.studies import sent_folder


@pytest.fixture(scope="session")
def sent_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sent_folder(tmp_path_factory)


@pytest.fixture(scope="session")
def frames(sent_study: Path) -> StudyFrames:
    return load_study(str(sent_study / "study.db"))


@pytest.fixture(scope="session")
def runs(frames: StudyFrames) -> list[TrackedRun]:
    """The runs of the best settings on fresh seeds."""
    return list(tracked_runs(frames, "winners"))


@pytest.fixture
def summary(frames: StudyFrames, tmp_path: Path) -> Summary:
    page = tmp_path / "sent.html"
    page.write_text("<p>The report.</p>")
    return summary_of(Findings.of(frames), page)
