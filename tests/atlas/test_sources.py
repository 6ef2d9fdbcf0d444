"""What the atlas reads: databases, folders, exports, plans; and what it refuses or leaves out, each with one line."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from relaxbench.analysis.verdict_table import verdict_table
from relaxbench.analysis.verdicts import verdicts
from relaxbench.atlas.sources import gather
from relaxbench.errors import UserError
from relaxbench.report import load_study
from relaxbench.store.database import open_database
from relaxbench.store.export import export_study
from tests.atlas.studies import table, write

PLAN = {
    "study": "long", "looks": [6, 12],
    "first": {"seconds": 7200}, "last": {"seconds": 14400},
    "methods": [
        {"problem": "digits-mlp@6000", "method": method, "budget": 6000,
         "first": {"runs": 24, "seconds": 3600}, "last": {"runs": 48, "seconds": 7200}}
        for method in ("sgd", "hj", "parle")
    ],
}  # fmt: skip


def test_cells_are_the_verdicts_of_the_study(tmp_path: Path) -> None:
    file = write(tmp_path / "one.db")
    atlas, cells = table(file)
    expected = verdict_table(verdicts(load_study(str(file)))).set_index("method")
    assert expected["verdict"].to_dict() == {
        "sgd": "baseline",
        "lookahead": "equivalent",
        "hj": "better",
        "heat": "worse",
    }
    for method, row in expected.iterrows():
        cell = cells.loc["digits", "digits-mlp", method]
        assert cell["verdict"] == row["verdict"]
        for column in ("ratio", "low", "high", "error", "freedom", "family", "looks", "look", "needed"):
            both_unknown = cell[column] != cell[column] and row[column] != row[column]
            assert method == "sgd" or cell[column] == row[column] or both_unknown, column
        assert cell["disasters"] == row["disaster_count"] and cell["disaster_bound"] == row["disaster_bound"]
    assert cells.loc["digits", "digits-mlp", "heat"]["cost"] == pytest.approx(1.5)  # as calibrated
    assert list(atlas.columns) == [(name, "tuned", "default") for name in ("lookahead", "hj", "heat")]


def test_a_folder_gives_its_studies_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    write(tmp_path / "a.db")
    write(tmp_path / "aa.db", name="aa", repetitions=2, looks=[6])
    write(tmp_path / "none.db", name="none", baseline="adam")
    (tmp_path / "text.db").write_text("hello")
    (tmp_path / "other.json").write_text("[1]")
    (tmp_path / "notes.txt").write_text("no matter")
    with sqlite3.connect(tmp_path / "foreign.db") as other:
        other.execute("CREATE TABLE birds (name TEXT)")
    other.close()
    write(tmp_path / "newer.db", name="newer")
    with sqlite3.connect(tmp_path / "newer.db") as newer:
        newer.execute("UPDATE relaxbench_version SET version_num = '9999'")
    newer.close()
    entries, left_out = gather([str(tmp_path)])
    assert [entry.label for entry in entries] == ["digits"]
    said = "\n".join(left_out)
    assert len(left_out) == 6 and all("\n" not in line for line in left_out)
    assert "aa in" in said and "(A/A)" in said and "none in" in said and "no baseline" in said
    assert (
        "text.db" in said and "foreign.db" in said and "other.json" in said and "newer.db" in said and "newer" in said
    )


def test_places_without_a_study_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.db").write_text("hello")
    (tmp_path / "plan.json").write_text(json.dumps(PLAN))
    (tmp_path / "study.toml").write_text("")
    write(tmp_path / "a.db")
    for place, words in (
        ("empty", "holds no study"),
        ("text.db", "not a SQLite database"),
        ("study.toml", "is a study file, which has no results"),
        ("plan.json", "no study with a baseline"),
        ("missing.db", "does not exist"),
        ("a.db#other", "unknown study 'other'"),
    ):
        with pytest.raises(UserError, match=words) as refused:
            gather([str(tmp_path / place)])
        assert "\n" not in str(refused.value)


def test_a_copy_of_a_study_is_left_out_and_a_study_of_one_name_is_told_apart(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.db"), write(tmp_path / "a-1.db", fill=1)
    engine = open_database(str(first), read_only=True)
    export_study(engine, tmp_path / "copy.db", "digits")
    engine.dispose()
    entries, left_out = gather([str(first), str(tmp_path / "copy.db"), str(first), str(second)])
    assert [entry.label for entry in entries] == ["digits in a.db", "digits in a-1.db"]
    assert len(left_out) == 1 and "copy" in left_out[0]
    (tmp_path / "copy.db").unlink()
    atlas, _ = table(tmp_path)
    assert [entry.label for entry in atlas.entries] == ["digits in a.db", "digits in a-1.db"]  # not as ASCII sorts
    repeated = atlas.tables()["repeats"]
    assert set(repeated["method"]) == {"lookahead", "hj", "heat"} and repeated["same_verdict"].all()


def test_one_study_of_a_database(tmp_path: Path) -> None:
    write(tmp_path / "both.db", name="one")
    write(tmp_path / "both.db", name="two")
    entries, _ = gather([f"{tmp_path / 'both.db'}#two"])
    assert [entry.name for entry in entries] == ["two"]


def test_an_unfinished_study_says_so_and_what_was_decided_stays(tmp_path: Path) -> None:
    atlas, cells = table(write(tmp_path / "a.db", finished=False))
    (entry,) = atlas.studies
    assert entry.missing and entry.done < entry.planned
    assert cells.loc["digits", "digits-mlp", "hj"]["verdict"] == "better"
    assert cells.loc["digits", "digits-mlp", "heat"]["verdict"] == "no claim"
    assert atlas.tables()["studies"]["state"].tolist() == ["unfinished"]


def test_a_plan_fills_cells_that_were_not_run(tmp_path: Path) -> None:
    write(tmp_path / "a.db")
    (tmp_path / "long.json").write_text(json.dumps(PLAN))
    (tmp_path / "run.json").write_text(json.dumps(PLAN | {"study": "digits"}))  # which was run: its plan has no place
    atlas, cells = table(tmp_path)
    assert [entry.label for entry in atlas.entries] == ["digits", "long"]
    cell = cells.loc["long", "digits-mlp@6000", "hj"]
    assert (cell["verdict"], cell["title"], cell["hours"], cell["base"]) == (
        "not run",
        "Hamilton–Jacobi",
        1.0,
        "digits-mlp",
    )
    assert atlas.rows[-1].title == "Digits, 64-32-10 MLP" and atlas.tests == 3
