"""Crafted and damaged studies: importing, showing and reporting one ends in one line, and nothing is written."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text

from relaxbench.analysis.frames import load_study
from relaxbench.errors import UserError
from relaxbench.store.database import open_database
from relaxbench.store.export import open_export
from relaxbench.store.soundness import check_stored
from relaxbench.store.transfer import copy_study
from tests import synthetic
from tests.cli.commands import refused


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a sound study."""
    file = tmp_path_factory.mktemp("whole") / "whole.db"
    engine = open_database(str(file))
    asked = synthetic.spec(methods=["sgd", "hj"], controls=[], looks=[6], trials=1, exploit=1, recommend=1)
    synthetic.fill(synthetic.Writer(engine, asked))
    engine.dispose()
    return file


def put(table: str, column: str, path: str, value: object) -> str:
    """SQL that replaces a value within a column of JSON."""
    return f"UPDATE relaxbench_{table} SET {column} = json_set({column}, '$.{path}', json('{json.dumps(value)}'))"


def column(table: str, column: str, value: str) -> str:
    return f"UPDATE relaxbench_{table} SET {column} = {value}"


NESTED = "'" + "[" * 100_000 + "]" * 100_000 + "'"
PROBLEM, METHOD = 'problems."digits-mlp"', "methods.hj"
DAMAGE = [
    (column("curves", "data", "substr(data, 2)"), "the curve of trial"),
    (column("studies", "spec", "'[1]'"), "specification = [1]: expected a table"),
    (column("studies", "spec", "'null'"), "specification = None: expected a table"),
    (column("studies", "spec", "'{'"), "property name"),
    (column("studies", "spec", NESTED), "RecursionError"),
    (column("studies", "manifest", "'7'"), "manifest = 7: expected a table"),
    (column("trials", "params", "'\"fast\"'"), "params = 'fast': expected a table"),
    (column("trials", "params", "'{\"lr\": [1]}'"), "params.lr = [1]: expected a number or a text"),
    (column("trials", "measures", '\'{"test_metric": "low"}\''), "test_metric = 'low': expected a finite number"),
    (column("trials", "ledger", '\'{"gradients": "many"}\''), "gradients = 'many': expected a finite number"),
    (column("trials", "value", "1e999"), "value = inf: expected a finite number"),
    (column("trials", "value", "'low'"), "value = 'low': expected a finite number"),
    (
        column("trials", "phase", "'explode' WHERE id = (SELECT min(id) FROM relaxbench_trials)"),
        "phase = 'explode': expected one of explore",
    ),
    (column("trials", "status", "'dead'"), "status = 'dead': expected one of waiting"),
    (
        column("trials", "block", "-1 WHERE id = (SELECT min(id) FROM relaxbench_trials)"),
        "block = -1: expected a whole number",
    ),
    (column("trials", "number", "'x'"), "number = 'x': expected a whole number"),
    (put("studies", "spec", "looks", [10**9]), "specification.looks[0] = 1000000000: expected a whole number in range"),
    (put("studies", "spec", "looks", [10, 10]), "specification.looks = [10, 10]: expected numbers that rise"),
    (put("studies", "spec", "looks", "ten"), "specification.looks = 'ten': expected a list"),
    (put("studies", "spec", "trials", 1.5), "specification.trials = 1.5: expected a whole number"),
    (put("studies", "spec", "repetitions", -1), "specification.repetitions = -1"),
    (put("studies", "spec", "methods", "sgd"), "specification.methods = 'sgd': expected a list"),
    (put("studies", "spec", "problems", [7]), "specification.problems[0] = 7: expected a text"),
    (put("studies", "manifest", f"{PROBLEM}.metric_scale", "%"), "metric_scale = '%': expected a finite number"),
    (put("studies", "manifest", f"{PROBLEM}.test_examples", 10**13), "test_examples = 10000000000000: expected"),
    (put("studies", "manifest", f"{PROBLEM}.title", None), "title = None: expected a text"),
    (put("studies", "manifest", PROBLEM, [1]), "digits-mlp = [1]: expected a table"),
    (put("studies", "manifest", f"{METHOD}.space", {"lr": {"kind": "float"}}), "KeyError('low') in a range"),
    (put("studies", "manifest", f"{METHOD}.calibration", 3), "calibration = 3: expected a table"),
    (put("studies", "manifest", "engines", [1]), "manifest.engines = [1]: expected a table"),
]


@pytest.mark.parametrize(("statement", "told"), DAMAGE, ids=lambda value: value[:60])
def test_a_damaged_study_is_refused_in_one_line(whole: Path, tmp_path: Path, statement: str, told: str) -> None:
    file = tmp_path / "damaged.db"
    shutil.copy(whole, file)
    with sqlite3.connect(file) as connection:
        connection.execute(statement)
    connection.close()
    source, target = open_export(file), open_database(str(tmp_path / "target.db"))
    try:
        with pytest.raises(UserError) as imported:
            copy_study(source, target, "digits")
        with target.connect() as reading:
            assert reading.scalar(text("SELECT count(*) FROM relaxbench_studies")) == 0
        with pytest.raises(UserError) as shown:
            load_study(source)
    finally:
        source.dispose()
        target.dispose()
    for line in map(str, (imported.value, shown.value)):
        assert told in line and "digits" in line and "\n" not in line and "backup" in line


def test_a_study_with_other_answers_than_test_examples_is_not_shown(whole: Path, tmp_path: Path) -> None:
    """A terabyte of answers would be unpacked otherwise."""
    file = tmp_path / "damaged.db"
    shutil.copy(whole, file)
    with sqlite3.connect(file) as connection:
        connection.execute(put("studies", "manifest", f"{PROBLEM}.test_examples", 10**12))
        connection.execute("UPDATE relaxbench_trials SET correct = x'ff'")
    connection.close()
    with pytest.raises(UserError, match=r"has 8 answers, and its problem 1,000,000,000,000 test examples"):
        load_study(file)
    source, target = open_export(file), open_database(str(tmp_path / "target.db"))
    with pytest.raises(UserError, match="1,000,000,000,000 test examples"):
        copy_study(source, target, "digits")
    source.dispose()
    target.dispose()


def test_a_sound_study_is_copied_and_shown(whole: Path, tmp_path: Path) -> None:
    source, target = open_export(whole), open_database(str(tmp_path / "target.db"))
    assert copy_study(source, target, "digits").trials == len(load_study(target).trials) > 0
    source.dispose()
    target.dispose()


@pytest.mark.parametrize("command", [["status"], ["worker", "digits"], ["best", "digits", "sgd"], ["show"], ["report"]])
@pytest.mark.parametrize("value", ["'[1]'", NESTED, "'{'"], ids=["list", "nested", "no JSON"])
def test_every_command_that_reads_a_damaged_study_refuses_it(
    whole: Path,
    tmp_path: Path,
    command: list[str],
    value: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(whole, "relaxbench.db")
    with sqlite3.connect("relaxbench.db") as connection:
        connection.execute(column("studies", "spec", value))
    connection.close()
    assert "study 'digits' is damaged (" in refused(capsys, *command)


def test_a_damaged_study_is_not_continued(whole: Path, tmp_path: Path) -> None:
    file = tmp_path / "damaged.db"
    shutil.copy(whole, file)
    engine = open_database(str(file))
    check_stored(engine)
    with engine.begin() as connection:
        connection.execute(text(column("studies", "manifest", "'7'")))
    check_stored(engine, "another")
    with pytest.raises(UserError, match=r"study 'digits' is damaged \(manifest = 7: expected a table\)"):
        check_stored(engine, "digits")
    engine.dispose()
