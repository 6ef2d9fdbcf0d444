"""`study --quick`: a study of its own that takes seconds, decides nothing and says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from relaxbench.analysis.findings import Findings
from relaxbench.analysis.frames import load_study
from relaxbench.cli.spec import QUICK_LABEL
from relaxbench.store.database import open_database
from relaxbench.store.schema import Study
from tests.cli.commands import STUDY, printed, refused, rows
from tests.study import tiny

pytestmark = pytest.mark.usefixtures("folder")

QUICK = ("study", "mine.toml", "--quick", "--population", "8")


def test_a_quick_study_decides_nothing_and_leaves_the_study_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.set_engine(monkeypatch)
    text = STUDY.replace("rosenbrock", "rugged-1d").replace("trials = 1", "trials = 7\nmargin = '10 %'")
    Path("mine.toml").write_text(f'description = "Mine."{text}')
    out = printed(capsys, *QUICK)
    assert QUICK_LABEL in " ".join(out.split()) and "no claim. 2 blocks, at least 6 are needed" in " ".join(out.split())
    assert f"{QUICK_LABEL} Mine." in Path("reports/tiny-quick.html").read_text()
    database = open_database("relaxbench.db", create=False, read_only=True)
    frames = load_study(database, "tiny-quick")
    counts = frames.trials.groupby(["method", "phase"]).size().to_dict()
    best = tiny.best(2, 2)
    assert counts == {
        (method, phase): n for method in ("sgd", "heat") for phase, n in (("explore", 4), ("confirm", best))
    }
    assert set(frames.trials["status"]) == {"done"} and frames.flatness.empty
    assert [result.verdict for result in Findings.of(frames).results if result.method == "heat"] == ["no claim"]
    database.dispose()
    before = rows("relaxbench.db")
    assert "nothing was run" in printed(capsys, *QUICK, "--no-report")
    small = ("--trials", "1", "--population", "8", "--no-report", "--method", "heat")
    assert "in the study" in printed(capsys, "study", "mine.toml", *small)  # the study itself, from its beginning
    after = rows("relaxbench.db")
    assert after[: len(before)] == before and {row.study_id for row in after[len(before) :]} == {2}
    assert _studies() == {"tiny", "tiny-quick"}
    assert refused(capsys, "study", "mine.toml", "--name", "tiny-quick").count("looks: [2]") == 1


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_quick_study_is_not_pruned_and_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, pruner: str, sampler: str
) -> None:
    """Two trials are too few for a pruner, and for generations of several."""
    tiny.set_engine(monkeypatch)
    text = STUDY.replace("rosenbrock", "rugged-1d").replace("trials = 1", "trials = 12")
    Path("mine.toml").write_text(f'{text}\n[search]\nsampler = "{sampler}"\npruner = "{pruner}"\ngeneration = 4\n')
    assert f"{QUICK_LABEL} Its trials are not pruned." in " ".join(printed(capsys, *QUICK).split())


def _studies() -> set[str]:
    database = open_database("relaxbench.db", create=False, read_only=True)
    with database.connect() as connection:
        found = set(connection.scalars(select(Study.name)))
    database.dispose()
    return found


@pytest.mark.parametrize("option", [("--looks", "6,12"), ("--trials", "3"), ("--more-blocks", "2")])
def test_quick_excludes_options_that_size_a_study(option: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text(STUDY)
    line = refused(capsys, *QUICK, *option)
    assert f"--quick with {option[0]}: a quick study has 2 blocks of 2 trials; leave one out" in line


def test_a_name_that_would_become_too_long_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text(STUDY)
    assert "has more than 200 characters: give a shorter --name" in refused(capsys, *QUICK, "--name", "n" * 195)


def test_phases_can_be_left_out(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.set_engine(monkeypatch)
    Path("mine.toml").write_text(STUDY.replace("flatness = false", "flatness = true"))
    options = ("--no-exploit", "--no-recommend", "--no-flatness", "--method", "sgd", "--no-report")
    printed(capsys, "study", "mine.toml", "--population", "8", *options)
    assert {row.phase for row in rows("relaxbench.db")} == {"explore", "confirm"}
    database = open_database("relaxbench.db", create=False, read_only=True)
    spec = load_study(database, "tiny").spec
    database.dispose()
    assert (spec["exploit"], spec["recommend"], spec["flatness"]) == (0, 0, False)
