"""Joining a study that is in the database: what it needs is found, and what does not fit is refused, unchanged."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import Engine, delete, select, update

import relaxbench
from relaxbench.errors import UserError
from relaxbench.store.database import open_database
from relaxbench.store.schema import Study, Trial
from relaxbench.study.coordination.manifest import edit_manifest
from relaxbench.study.definition.spec import StudySpec
from relaxbench.study.execution.join import Part, join
from relaxbench.study.execution.options import RunOptions
from relaxbench.study.execution.run import StudyRun
from tests.study import tiny
from tests.study.results import DATA

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    return tmp_path


@pytest.fixture
def database(folder: Path) -> Iterator[Engine]:
    engine = open_database("study.db")
    yield engine
    engine.dispose()


@pytest.fixture
def begun(database: Engine) -> Engine:
    """With a study whose trials wait."""
    tiny.settle(database, tiny.spec())
    return database


def file_spec(**changes: Any) -> StudySpec:
    """A study that may stand in a file: with fewer blocks no look makes a claim."""
    return tiny.spec(**{"looks": [6], **changes})


@pytest.fixture
def written(database: Engine) -> Engine:
    """With a study whose trials wait, and which a file may describe."""
    tiny.settle(database, file_spec())
    return database


@pytest.fixture
def mine(database: Engine, folder: Path) -> Engine:
    """With a study of a problem in a file."""
    (folder / "mine.py").write_text(DATA.format(scale=1))
    tiny.settle(database, tiny.spec(problems=["mine.py"], methods=["sgd"], looks=[1], exploit=0, recommend=0))
    return database


def stored(database: Engine) -> Any:
    with database.connect() as connection:
        tables = (Study.__table__, Trial.__table__)
        return [connection.execute(select(table)).all() for table in tables]


def refused(database: Engine, *arguments: Any) -> str:
    """What is said, in one line; nothing is written."""
    before = stored(database)
    with pytest.raises(UserError) as error:
        join(database, *arguments)
    assert "--" not in str(error.value)  # options of the command line are named there alone
    assert stored(database) == before and "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.usefixtures("steady")
def test_a_worker_that_joins_runs_the_stored_study(begun: Engine, whole: dict[Any, Any], folder: Path) -> None:
    """All of it, though the file says nothing more of it; and a part of the rows that were never written."""
    with begun.begin() as connection:  # whoever began was killed at once
        connection.execute(delete(Trial).where(Trial.method == "heat"))
    opened = join(begun, "tiny")
    assert not opened.new and opened.spec == tiny.spec() and len(opened.plans) == 2
    summary = StudyRun(begun, RunOptions(checkpoints=folder / "c")).work(opened)
    assert (summary.ran, summary.missing, summary.code) == (30, 0, 0)
    assert tiny.results_in(begun) == whole
    again = StudyRun(begun, RunOptions(checkpoints=folder / "c")).work(join(begun, "tiny"))
    assert again.ran == 0


def test_a_study_can_be_joined_by_its_unchanged_file(written: Engine, folder: Path) -> None:
    (folder / "tiny.toml").write_text(tiny.file(file_spec()))
    assert join(written, "tiny.toml").spec.name == "tiny"
    (folder / "tiny.toml").write_text(tiny.file(file_spec(description="told otherwise", controls=["heat"])))
    assert join(written, "tiny.toml").spec.description == ""  # what is told of runs may differ


@pytest.mark.usefixtures("steady")
def test_a_part_of_a_study_can_be_joined(begun: Engine, folder: Path) -> None:
    opened = join(begun, "tiny", part=Part(["rosenbrock"], ["heat"]))
    assert opened.spec.methods == ["heat"] and [plan.method for plan in opened.plans] == ["heat"]
    summary = StudyRun(begun, RunOptions(checkpoints=folder / "c")).work(opened)
    assert (summary.ran, summary.total, summary.missing) == (15, 15, 0)
    with begun.connect() as connection:
        rows = connection.execute(select(Trial.method, Trial.status).distinct()).all()
    assert sorted(map(tuple, rows)) == [("heat", "done"), ("sgd", "waiting")]
    assert "unknown method in study 'tiny': 'hot'" in refused(begun, "tiny", None, Part(methods=["hot"]))
    assert "unknown problem in study 'tiny': 'rosenbrok'" in refused(begun, "tiny", None, Part(["rosenbrok"]))


def test_another_file_is_refused_with_the_differences(written: Engine, folder: Path) -> None:
    (folder / "tiny.toml").write_text(tiny.file(file_spec(looks=[7, 9], seed=7)))
    assert refused(written, "tiny.toml") == (
        "the stored study 'tiny' is not the one of tiny.toml (looks: stored 6, in the file 7, 9; seed: stored 0, "
        "in the file 7): join by its name, or extend it with python -m relaxbench study"
    )
    (folder / "tiny.toml").write_text(tiny.file(file_spec(problems=["rugged-1d"])))
    assert "(problems: stored rosenbrock, in the file rugged-1d)" in refused(written, "tiny.toml")
    (folder / "tiny.toml").write_text(tiny.file(file_spec(methods=["sgd", "hj"], description="other", margin="10 %")))
    said = refused(written, "tiny.toml")
    assert (
        "(margin: stored the problem's own, in the file 10 %; methods: stored sgd, heat, in the file sgd, hj)" in said
    )
    (folder / "tiny.toml").write_text(re.sub("budget = .*", "", tiny.file(file_spec())))
    assert f"(budget: stored {file_spec().budget}, in the file the problem's own)" in refused(written, "tiny.toml")
    assert "'none.toml' does not exist" in refused(written, "none.toml")


def test_a_study_that_is_not_there_is_refused(database: Engine, folder: Path) -> None:
    assert refused(database, "tiny") == "unknown study 'tiny': there is none yet"
    tiny.settle(database, tiny.spec())
    assert "unknown study 'tyni': did you mean 'tiny'?" in refused(database, "tyni")
    (folder / "other.toml").write_text(tiny.file(file_spec(name="other")))
    assert "unknown study 'other'" in refused(database, "other.toml")


def test_another_version_is_refused_with_both(begun: Engine) -> None:
    edit_manifest(begun, 1, lambda manifest: manifest.update(version="0.0.1"))
    line = refused(begun, "tiny")
    assert line == (
        f"study 'tiny' began with relaxbench 0.0.1, and this is {relaxbench.__version__}: go on with relaxbench 0.0.1, "
        "or begin a study of another name"
    )


@pytest.mark.usefixtures("steady")
def test_another_version_may_neither_extend_nor_go_on_but_tell(begun: Engine, folder: Path) -> None:
    """`study` on it: an extension is refused before anything is written."""
    options = RunOptions(device=CPU, checkpoints=folder / "c")
    tiny.run_in(begun, tiny.spec(), options)
    edit_manifest(begun, 1, lambda manifest: manifest.update(version="0.0.1"))
    before = stored(begun)
    with pytest.raises(UserError, match=r"began with relaxbench 0\.0\.1"):
        tiny.run_in(begun, tiny.spec(more_blocks=1), options, "other source")
    assert stored(begun) == before
    assert tiny.run_in(begun, tiny.spec(), options).ran == 0  # all is done: nothing is mixed
    tiny.run_in(begun, tiny.spec(description="told otherwise"), options)
    assert stored(begun)[0][0].spec["description"] == "told otherwise"


def test_a_study_of_the_protocol_before_looks_neither_goes_on_nor_changes(begun: Engine, folder: Path) -> None:
    with begun.begin() as connection:
        (spec,) = connection.scalars(select(Study.spec))
        old = {key: value for key, value in spec.items() if key not in ("looks", "more_blocks", "budgets")}
        connection.execute(update(Study).values(spec={**old, "blocks": 2}))
    line = refused(begun, "tiny")
    assert line == (
        "study 'tiny' was planned by an earlier protocol, without looks: it can be shown, reported and exported, but "
        "does not go on; begin a study of another name"
    )
    before = stored(begun)
    with pytest.raises(UserError, match="planned by an earlier protocol"):
        tiny.run_in(begun, tiny.spec(), RunOptions(device=CPU, checkpoints=folder / "c"))
    assert stored(begun) == before


def test_another_kind_of_device_is_refused(begun: Engine) -> None:
    edit_manifest(begun, 1, lambda manifest: manifest.update(device="cuda"))
    assert "study 'tiny' began on cuda, not on cpu" in refused(begun, "tiny", CPU)


def test_changed_data_are_refused(mine: Engine, folder: Path) -> None:
    join(mine, "tiny")
    (folder / "mine.py").write_text(DATA.format(scale=2))
    assert "the data of problem 'mine' have changed since the study began" in refused(mine, "tiny")


def test_a_problem_s_file_is_found_from_anywhere_on_its_machine(mine: Engine, folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    os.chdir("elsewhere")
    assert [p.name for p in join(mine, "tiny").problems] == ["mine"]


def test_a_problem_s_file_that_lies_elsewhere_has_to_be_named(mine: Engine, folder: Path) -> None:
    (folder / "mine.py").rename(folder / "moved.py")
    line = refused(mine, "tiny")
    assert line.startswith(f"problem 'mine' of study 'tiny' is not here at '{folder / 'mine.py'}'")
    assert line.endswith("give its Python file")
    opened = join(mine, "tiny", part=Part(["moved.py"]))
    assert [p.name for p in opened.problems] == ["mine"] and opened.spec.problems == ["moved.py"]
    (folder / "other.py").write_text(DATA.format(scale=1).replace('"mine"', '"other"'))
    assert "unknown problem in study 'tiny': 'other'" in refused(mine, "tiny", None, Part(["moved.py", "other.py"]))
    (folder / "changed.py").write_text(DATA.format(scale=3))
    assert "have changed" in refused(mine, "tiny", None, Part(["changed.py"]))
