"""`--json`: one object alone on the output, whose values are those of the database and of the text."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relaxbench.analysis.findings import Findings
from relaxbench.analysis.frames import load_study
from relaxbench.cli.as_json import plain
from relaxbench.optim.registry import RULES, rule_class
from relaxbench.problems import PROBLEMS, problem
from relaxbench.store.database import open_database
from tests.cli.commands import STUDY, nothing_written, printed, rows
from tests.study import tiny
from tests.synthetic import Writer, fill, spec

pytestmark = pytest.mark.usefixtures("folder")

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What a command prints, which is one object of strict JSON and whose keys are those of the page of docs."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    with nothing_written():
        out = printed(capsys, *arguments, "--json")
    found: dict[str, Any] = json.loads(out, parse_constant=refuse)
    (keys,) = re.findall(rf"^\| `{arguments[0]}` \| (.*) \|$", PAGE, re.MULTILINE)
    assert set(found) == set(re.findall(r"`(\w+)`", keys.split(" · ")[0]))
    return found


@pytest.fixture
def study(folder: Path) -> str:
    """The address of a finished study of made-up results."""
    engine = open_database("study.db")
    fill(Writer(engine, spec(looks=[6], trials=2, exploit=0, recommend=2)))
    engine.dispose()
    return "study.db"


def test_numbers_of_numpy_are_plain_and_what_is_not_finite_is_null() -> None:
    values = {"a": np.float64(0.5), "b": (np.int64(3), np.bool_(True)), 4: [math.nan, -math.inf, None, "x"]}
    assert plain(values) == {"a": 0.5, "b": [3, True], "4": [None, None, None, "x"]}
    assert type(plain(np.float64(0.5))) is float and plain(np.float64("nan")) is None
    with pytest.raises(TypeError, match="object has no form"):
        plain(object())


def test_status(capsys: pytest.CaptureFixture[str], study: str) -> None:
    found = answer(capsys, "status", "--storage", study)
    stored = rows(study)
    assert found["workers"] == [] and found["failed"] == [] and found["look"] is None
    for row in found["trials"]:
        mine = [trial for trial in stored if (trial.problem, trial.method) == (row["problem"], row["method"])]
        assert row["done"] == len(mine) > 0 and row["waiting"] == row["running"] == row["failed"] == 0
    assert sum(row["done"] for row in found["trials"]) == len(stored)


def test_show(capsys: pytest.CaptureFixture[str], study: str) -> None:
    found = answer(capsys, "show", "--storage", study)
    frames = load_study(open_database(study, create=False, read_only=True))
    results = {(result.problem, result.method): result for result in Findings.of(frames).results}
    assert {(row["problem"], row["method"]) for row in found["verdicts"]} == set(results)
    text = " ".join(printed(capsys, "show", "--storage", study).split())
    for row in found["verdicts"]:
        result = results[row["problem"], row["method"]]
        assert row["verdict"] == result.verdict and " ".join(row["sentence"].split()) in text
        comparison = result.against("baseline")
        assert row["ratio"] == (None if comparison is None else comparison.ratio)
    assert any(row["ratio"] is not None for row in found["verdicts"])
    explored = [row for row in found["progress"] if row["phase"] == "explore"]
    assert all(row["done"] == row["planned"] == 6 * 2 for row in explored) and explored
    assert found["looks"] == [6]


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "list")
    methods = {row["name"]: row for row in found["methods"]}
    assert set(RULES) <= set(methods)  # other tests leave plug-ins in this process
    lr = rule_class("sgd").space["lr"]
    assert methods["sgd"]["space"]["lr"] == {"kind": "float", "low": lr.low, "high": lr.high, "log": True}  # type: ignore[union-attr]
    problems = {row["name"]: row for row in found["problems"]}
    assert set(PROBLEMS) <= set(problems)
    digits = problems["digits-mlp"]
    assert digits["parameters"] == 64 * 32 + 32 + 32 * 10 + 10 and digits["budget"] == problem("digits-mlp").budget


def test_a_plug_in_that_does_not_work_is_listed_with_its_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from relaxbench.errors import UserError

    def broken(name: str, options: object = None) -> Any:
        raise UserError(f"{name} does not load")

    monkeypatch.setattr("relaxbench.optim.registry.rule_class", broken)
    monkeypatch.setattr("relaxbench.problems.problem", broken)
    found = answer(capsys, "list")
    assert {"name": "sgd", "error": "sgd does not load"} in found["methods"]
    assert {"name": "digits-mlp", "error": "digits-mlp does not load"} in found["problems"]


def test_plan(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text(STUDY.replace("trials = 1", "trials = 3"))
    found = answer(capsys, "plan", "mine.toml", "--population", "8", "--looks", "6,12")
    assert found["study"] == "tiny" and found["looks"] == [6, 12]
    counts = {blocks: blocks * 3 + tiny.best(blocks, 3) + 2 + 2 for blocks in (6, 12)}
    for row in found["methods"]:
        for end, blocks in (("first", 6), ("last", 12)):
            cost = row[end]
            assert (cost["blocks"], cost["runs"], cost["gradients"]) == (blocks, counts[blocks], 40 * counts[blocks])
            assert cost["seconds"] > 0
    assert [row["method"] for row in found["methods"]] == ["sgd", "heat"]
    assert found["last"]["runs"] == 2 * counts[12]
    seconds = sum(row["last"]["seconds"] for row in found["methods"]) + found["start_seconds"]
    assert found["last"]["seconds"] == pytest.approx(seconds)
    (path,) = found["notes"]
    Path("mine.toml").write_text(f'{STUDY}[search]\nsampler = "qmc"\n[method.heat.search]\n')
    note, same = answer(capsys, "plan", "mine.toml", "--population", "8")["notes"]
    assert same == path
    assert "sampler 'random' in place of 'qmc'" in note and note in " ".join(
        printed(capsys, "plan", "mine.toml", "--population", "8").split()
    )


def test_best(capsys: pytest.CaptureFixture[str], study: str) -> None:
    found = answer(capsys, "best", "digits", "sgd", "--storage", study)
    mine = [trial for trial in rows(study) if (trial.method, trial.phase) == ("sgd", "explore")]
    winner = min(mine, key=lambda trial: trial.value)
    assert (found["trial"], found["validation_loss"]) == (winner.id, winner.value)
    assert found["params"] == winner.params and found["weights"] is None
    assert found["code"] + "\n" == printed(capsys, "best", "digits", "sgd", "--storage", study)
    runs = [
        trial.measures["test_metric"] for trial in rows(study) if (trial.method, trial.phase) == ("sgd", "recommend")
    ]
    assert found["runs"] == len(runs) == 2 and found["test_metric"] == pytest.approx(np.mean(runs) * 100)


def test_the_page_names_every_exit_code() -> None:
    from relaxbench.study.coordination.supervisor import INCOMPLETE, INTERRUPTED, MISTAKE

    codes = [0, 1, MISTAKE, INCOMPLETE, INTERRUPTED]
    assert re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE) == [str(code) for code in codes]
