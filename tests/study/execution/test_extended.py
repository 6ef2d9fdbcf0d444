"""Studies that grow: only what is missing is run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from relaxbench.report import load_study
from relaxbench.store.database import open_database
from relaxbench.store.schema import Trial, Weights
from tests.study import tiny
from tests.study.results import assert_mirrored, current, study_row

EXTENSIONS: list[dict[str, Any]] = [
    {"more_blocks": 1},
    {"exploit": 13},
    {"recommend": 3},
    {"methods": ["sgd", "heat", "lookahead"]},
    {"more_blocks": 2, "methods": ["lookahead", "sgd", "heat"], "problems": ["rosenbrock", "rugged-1d"]},
]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the study that most of `EXTENSIONS` extend; to be copied."""
    folder = tmp_path_factory.mktemp("begun")
    with pytest.MonkeyPatch.context() as patch:
        tiny.set_engine(patch)
        tiny.run(folder, tiny.spec(exploit=2))
    return folder


@pytest.mark.parametrize("change", EXTENSIONS, ids=lambda change: "+".join(change))
@pytest.mark.usefixtures("steady")
def test_an_extended_study_runs_only_what_is_missing(change: dict[str, Any], begun: Path, tmp_path: Path) -> None:
    """What counts in the end is, bit for bit, the study that would have been asked for at once."""
    large = tiny.spec(**{"exploit": 2, **change})
    if "exploit" in change:
        tiny.run(tmp_path, tiny.spec(exploit=6))
    else:
        shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    before = {row.id: row for row in tiny.rows(tmp_path)}
    summary = tiny.run(tmp_path, large)
    after = {row.id: row for row in tiny.rows(tmp_path)}
    assert not summary.new and summary.missing == 0 and summary.total == tiny.expected(large)
    ignored = {"mirrored"}
    for number, row in before.items():  # nothing that was done is touched
        assert {k: v for k, v in row._mapping.items() if k not in ignored} == {
            k: v for k, v in after[number]._mapping.items() if k not in ignored
        }
    assert summary.ran == len(after) - len(before)
    assert {row.status for row in after.values()} == {"done"}
    counted = current(tiny.results(tmp_path))
    assert len(counted) == tiny.expected(large)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    tiny.run(fresh, large)
    assert counted == current(tiny.results(fresh))
    assert_mirrored(tmp_path, large)
    assert tiny.run(tmp_path, large).ran == 0


@pytest.mark.usefixtures("steady")
def test_confirmations_of_what_is_no_longer_among_the_best_are_kept(tmp_path: Path) -> None:
    s = tiny.spec(looks=[1], trials=4, exploit=0, recommend=2)
    tiny.run(tmp_path, s)
    database = open_database(str(tmp_path / "study.db"))
    with database.begin() as connection:  # the settings of the first look turn out to be very bad
        connection.execute(update(Trial).where(Trial.phase == "explore").values(value=90.0 + Trial.value))
    database.dispose()
    first = {row.parent for row in tiny.rows(tmp_path) if row.phase == "confirm"}
    tiny.run(tmp_path, s.model_copy(update={"more_blocks": 5}))
    found = tiny.rows(tmp_path)
    for method in s.methods:
        mine = [row for row in found if row.method == method]
        explored = sorted((r for r in mine if r.phase == "explore"), key=lambda r: (r.value, r.block, r.number))
        best = {row.id for row in explored[: tiny.best(6, 4)]}
        confirmed = {row.parent for row in mine if row.phase == "confirm"}
        assert confirmed == best | (first & {row.id for row in mine}) and len(confirmed) == len(best) + 2
        assert sum(row.phase == "recommend" and row.parent == explored[0].id for row in mine) == 2


@pytest.mark.usefixtures("steady")
def test_every_extension_beyond_the_last_look_is_a_look(tmp_path: Path) -> None:
    s = tiny.spec(looks=[1], trials=1, exploit=0, recommend=0)
    for more in (0, 1, 1, 3):
        tiny.run(tmp_path, s.model_copy(update={"more_blocks": more}))
    assert study_row(tmp_path).manifest["extra_looks"] == [2]
    database = tiny.opened(tmp_path)
    frames = load_study(database)
    database.dispose()
    assert frames.looks == (1, 2, 4)
    assert len(tiny.rows(tmp_path)) == tiny.expected(s.model_copy(update={"more_blocks": 3}))


@pytest.mark.usefixtures("steady")
def test_the_weights_kept_are_those_of_the_current_best_settings(tmp_path: Path) -> None:
    """Also when an earlier winner's runs happened to end lower: `best` prints the settings beside them."""
    s = tiny.spec(looks=[1], trials=1, exploit=0, recommend=1)
    tiny.run(tmp_path, s)
    database = open_database(str(tmp_path / "study.db"))
    with database.begin() as connection:  # an unlucky trial whose settings then did very well
        connection.execute(update(Trial).where(Trial.phase == "explore").values(value=99.0))
        connection.execute(update(Trial).where(Trial.phase == "recommend").values(value=-1.0))
    database.dispose()
    tiny.run(tmp_path, s.model_copy(update={"more_blocks": 3}))
    found = [row for row in tiny.rows(tmp_path) if row.method == "sgd"]
    best = min((row for row in found if row.phase == "explore"), key=lambda row: (row.value, row.id))
    mine = {row.id for row in found if row.phase == "recommend" and row.parent == best.id}
    database = tiny.opened(tmp_path)
    with database.connect() as connection:
        kept = set(connection.scalars(select(Weights.trial_id)))
    database.dispose()
    assert len(mine) == 1 and kept & {row.id for row in found} == mine


@pytest.mark.usefixtures("steady")
def test_running_a_part_of_a_study_keeps_what_is_known_of_the_rest(tmp_path: Path) -> None:
    both = tiny.spec(methods=["sgd"], problems=["rosenbrock", "rugged-1d"], looks=[1], exploit=0, recommend=0)
    tiny.run(tmp_path, both)
    tiny.run(tmp_path, both.model_copy(update={"problems": ["rosenbrock"], "recommend": 1}))
    row = study_row(tmp_path)
    assert row.spec["problems"] == ["rosenbrock", "rugged-1d"]
    assert set(row.manifest["problems"]) == set(row.manifest["engines"]) == {"rosenbrock", "rugged-1d"}
    assert set(row.manifest["methods"]["sgd"]["spaces"]) == {"rosenbrock", "rugged-1d"}


@pytest.mark.usefixtures("steady")
def test_a_method_that_is_left_out_unfinished_is_named_and_kept(tmp_path: Path) -> None:
    """A person who drops what looks bad sees that it still counts; what is finished needs no word."""
    values: dict[str, Any] = {"looks": [1], "trials": 1, "exploit": 0, "recommend": 0, "flatness": False}
    both, one = tiny.spec(**values), tiny.spec(**{**values, "methods": ["sgd"]})
    said: list[str] = []
    tiny.run(tmp_path, both, tiny.After(0))
    tiny.run(tmp_path, one, announce=said.append)
    (line,) = [line for line in said if "not requested" in line]
    assert line.startswith("Not finished and not requested now: heat on rosenbrock. ") and "\n" not in line
    assert study_row(tmp_path).spec["methods"] == ["sgd", "heat"]
    said.clear()
    tiny.run(tmp_path, both, announce=said.append)
    tiny.run(tmp_path, one, announce=said.append)
    assert not [line for line in said if "not requested" in line]


@pytest.mark.usefixtures("steady")
def test_a_method_that_is_left_out_of_further_blocks_is_named_once(tmp_path: Path) -> None:
    """Its trials are all done, and it would go on like the others: leaving it out is what the line is about."""
    values: dict[str, Any] = {"looks": [2], "trials": 1, "exploit": 0, "recommend": 0, "flatness": False, "margin": 1}
    values["methods"] = ["sgd", "heat", "hj"]
    tiny.run(tmp_path, tiny.spec(**values))
    said: list[str] = []
    more = {**values, "more_blocks": 2}
    tiny.run(tmp_path, tiny.spec(**{**more, "methods": ["sgd", "heat"]}), announce=said.append)
    (line,) = [line for line in said if "not requested" in line]
    assert line.startswith("Not finished and not requested now: hj on rosenbrock. ")
    said.clear()
    tiny.run(tmp_path, tiny.spec(**more), announce=said.append)
    tiny.run(tmp_path, tiny.spec(**{**more, "methods": ["sgd", "heat"]}), announce=said.append)
    assert not [line for line in said if "not requested" in line]
