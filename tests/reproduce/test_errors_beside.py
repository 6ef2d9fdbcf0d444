"""Published errors beside what studies found, and the command that prints both."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from relaxbench.analysis.findings import Findings
from relaxbench.cli.console import console
from relaxbench.cli.main import main
from relaxbench.optim.registry import RULES
from relaxbench.problems.registry import problem_names
from relaxbench.reproduce.errors_beside import beside, row_of, tables
from relaxbench.reproduce.published_errors import TABLES, PublishedError, PublishedTable
from relaxbench.study.definition.files import load
from tests.analysis.known import SGD, shifted, study

TABLE = PublishedTable(
    title="Test error",
    source="A paper",
    rows={
        "digits-mlp": {
            "sgd": PublishedError(4.0, 0.1, 100),
            "heat": PublishedError(3.0),
            "hj": PublishedError(5.0),
        },
        "lenet": {"sgd": PublishedError(0.5), "heat": PublishedError(0.4)},
    },
    baseline="sgd",
    differences=("It differs.",),
    study="studies/digits.toml",
)


@pytest.fixture(scope="module")
def findings() -> Findings:
    return Findings.of(study({"sgd": SGD, "heat": shifted(-1.5)}))


def printed(table: PublishedTable, studies: list[Findings]) -> str:
    out = io.StringIO()
    Console(file=out, width=120).print(*tables(table, beside(table, studies)))
    return out.getvalue()


def run(arguments: list[str]) -> tuple[int, str, str]:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as wrong:
        code = main(arguments)
    return code, out.getvalue(), wrong.getvalue()


def test_a_cell_has_the_geometric_mean_and_the_ratio_of_the_study(findings: Findings) -> None:
    cells = {(cell.problem, cell.rule): cell for cell in beside(TABLE, [findings])}
    (sgd,), (heat,) = cells["digits-mlp", "sgd"].measured, cells["digits-mlp", "heat"].measured
    assert sgd.level == pytest.approx(np.exp(np.mean(np.log(SGD))), rel=1e-6) and sgd.comparison is None
    expected = np.exp(np.mean(np.log(shifted(-1.5))))
    assert heat.level == pytest.approx(expected, rel=1e-6) and heat.runs == len(SGD) and heat.tuned
    assert heat.comparison is not None
    assert heat.comparison.ratio == pytest.approx(expected / np.exp(np.mean(np.log(SGD))), rel=1e-6)
    assert cells["digits-mlp", "heat"].published_ratio == 0.75
    assert all(not cells[place].measured for place in (("digits-mlp", "hj"), ("lenet", "sgd"), ("lenet", "heat")))


def test_the_table_says_what_was_not_run_and_how_the_protocols_differ(findings: Findings) -> None:
    text = printed(TABLE, [findings])
    assert "4.00 ± 0.10 % @ 100" in text and "0.75" in text and "It differs." in text
    assert "Not run: digits-mlp (hj); lenet (all). `python -m relaxbench plan studies/digits.toml`" in text
    (line,) = (
        line for line in text.splitlines() if "study digits, tuned, 10 runs, 600 gradients" in line and "(" in line
    )
    (cell,) = (cell for cell in beside(TABLE, [findings]) if (cell.problem, cell.rule) == ("digits-mlp", "heat"))
    compared = cell.measured[0].comparison
    assert compared is not None and compared.verdict == "better"
    assert f"{compared.ratio:.2f} ({compared.low:.2f} to {compared.high:.2f}), better" in line


def test_a_study_against_another_baseline_says_nothing_of_the_table(findings: Findings) -> None:
    assert all(not cell.measured for cell in beside(replace(TABLE, baseline="heat"), [findings]))


@pytest.mark.parametrize(
    ("problem", "row"),
    [
        ("lenet", "lenet"),
        ("lenet-small", "lenet"),
        ("lenet@600", "lenet"),
        ("lenet-small@60", "lenet"),
        ("lenets", None),
    ],
)
def test_the_row_of_a_problem(problem: str, row: str | None) -> None:
    assert row_of(problem, ["mnistfc", "lenet"]) == row


@pytest.mark.parametrize("name", TABLES)
def test_the_study_of_a_table_runs_every_cell(name: str) -> None:
    table = TABLES[name]
    assert set(table.rows) <= set(problem_names())
    spec, _ = load(Path(table.study))
    assert list(table.rows) == spec.problems and spec.baseline == table.baseline
    columns = {rule for cells in table.rows.values() for rule in cells}
    assert columns <= set(RULES) and columns <= {spec.variant(label).rule or label for label in spec.methods}


def test_the_command_prints_the_published_table_before_anything_was_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "width", 100)
    code, out, _ = run(["reproduce", "deep-relaxation"])
    assert code == 0 and "7.96 ± 0.05 % @ 200" in out and "Not run: mnistfc (all); lenet (all); allcnn-bn-zca" in out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["deep-relax"], "unknown table 'deep-relax': did you mean 'deep-relaxation'?"),
        (["curveball-toys", "digits"], "curveball-toys is measured now, not read from a study: leave 'digits' out"),
        (["curveball-toys", "--runs", "1"], "--runs 1: expected at least 2"),
        (["curveball", "--storage", "sqlite:///none.db"], "storage 'sqlite:///none.db' does not exist"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, wrong = run(["reproduce", *arguments])
    assert code == 2 and not out and told in wrong and wrong.count("\n") == 1
