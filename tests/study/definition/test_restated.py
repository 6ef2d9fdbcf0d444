"""What verdicts rest on holds as it was stated first: a change is refused, or shown with every verdict."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from relaxbench.analysis.findings import Findings
from relaxbench.analysis.frames import load_study
from relaxbench.cli.show import show_tables
from relaxbench.errors import UserError
from relaxbench.problems.landscapes.landscape import Rosenbrock
from relaxbench.store.database import open_database
from relaxbench.store.schema import Study, Trial
from relaxbench.store.transactions import write
from relaxbench.study.coordination.manifest import read_manifest
from relaxbench.study.definition.opening import open_study
from relaxbench.study.definition.prepare import prepare
from tests.study import tiny

CHANGES = [
    ({"margin": "10 %"}, "margin of rosenbrock", "100.0", "10 %"),
    ({"baseline": "heat"}, "baseline", "sgd", "heat"),
    ({"controls": ["lookahead"]}, "controls", "none", "lookahead"),
]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(str(tmp_path / "study.db"))
    yield engine
    engine.dispose()


def open_(database: Engine, restate: bool = False, **changes: Any) -> Any:
    values = {"methods": ["sgd", "heat", "lookahead"], "exploit": 0, "recommend": 0, **changes}
    spec = tiny.spec(**values)
    return open_study(database, spec, "source", prepare(spec), None, restate)


def read_test_data(database: Engine) -> None:
    """One confirmation is done."""
    place = {"study_id": 1, "problem": "rosenbrock", "method": "sgd", "phase": "confirm", "block": 0, "number": 0}
    row = {**place, "parent": 1, "seed": 1, "params": {}, "status": "done", "token": 1, "failures": 0, "mirrored": True}
    values = {**row, "diverged": False, "measures": {"test_loss": 1.0, "test_metric": 9.0}, "ledger": {}, "value": 1.0}
    write(database, lambda connection: connection.execute(Trial.__table__.insert().values(**values)))  # type: ignore[attr-defined]


def stored(database: Engine) -> Any:
    with database.connect() as connection:
        return connection.execute(select(Study.__table__)).one()


@pytest.mark.parametrize(("change", "what", "was", "now"), CHANGES)
def test_it_is_refused_after_test_data_were_read(
    change: dict[str, Any], what: str, was: str, now: str, database: Engine
) -> None:
    open_(database)
    read_test_data(database)
    before = stored(database)
    with pytest.raises(UserError) as refused:
        open_(database, **change)
    assert f"{what}: {was} → {now}" in str(refused.value) and refused.value.settings == ("restate",)
    assert "\n" not in str(refused.value) and "--" not in str(refused.value)
    assert stored(database) == before
    open_(database)  # as it was stated, it goes on


@pytest.mark.parametrize(("change", "what", "was", "now"), CHANGES)
def test_it_may_be_restated_and_is_shown_then(
    change: dict[str, Any], what: str, was: str, now: str, database: Engine
) -> None:
    open_(database)
    read_test_data(database)
    open_(database, True, **change)
    open_(database, **change)  # it holds from now on
    (facts,) = read_manifest(database, 1)["restated"]
    assert (facts["what"], facts["was"], facts["now"]) == (what, was, now)
    frames = load_study(database)
    told = f"{what}, first {was}, now {now}."
    cautions = [line for line in Findings.of(frames).cautions if "after the test data were seen" in line]
    assert len(cautions) == 1 and told in cautions[0]
    assert any(told in str(part) for part in show_tables(Findings.of(frames)))
    with pytest.raises(UserError, match="→"):
        open_(database)  # changing it back is a change as well


@pytest.mark.parametrize(("change", "what", "was", "now"), CHANGES)
def test_it_may_change_before_test_data_are_read(
    change: dict[str, Any], what: str, was: str, now: str, database: Engine
) -> None:
    open_(database)
    open_(database, **change)
    assert "restated" not in read_manifest(database, 1)
    read_test_data(database)
    with pytest.raises(UserError, match=f"{now} → {was}"):
        open_(database)


def test_the_margin_of_a_problem_itself_counts(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    open_(database)
    read_test_data(database)
    build = Rosenbrock.__init__

    def wider(self: Rosenbrock, *arguments: Any, **named: Any) -> None:
        build(self, *arguments, **named)
        self.margin = 400.0

    monkeypatch.setattr(Rosenbrock, "__init__", wider)
    with pytest.raises(UserError, match=r"margin of rosenbrock: 100\.0 → 400\.0"):
        open_(database)
    open_(database, True)
    assert read_manifest(database, 1)["problems"]["rosenbrock"]["margin"] == 400.0


def test_the_roles_of_all_methods_follow_a_restatement(database: Engine) -> None:
    open_(database)
    read_test_data(database)
    open_(database, True, methods=["heat", "lookahead"], baseline="heat", controls=["lookahead"])
    methods = read_manifest(database, 1)["methods"]
    assert {label: facts["role"] for label, facts in methods.items()} == {
        "sgd": "candidate",
        "heat": "baseline",
        "lookahead": "control",
    }


def test_a_control_that_is_added_is_no_restatement(database: Engine) -> None:
    """Nothing of it has been seen."""
    open_(database, methods=["sgd", "heat"])
    read_test_data(database)
    open_(database, controls=["lookahead"])
    assert "restated" not in read_manifest(database, 1)


def test_the_same_margin_written_otherwise_is_no_restatement(database: Engine) -> None:
    open_(database, margin="10 %")
    read_test_data(database)
    open_(database, margin="10.0%")
    assert "restated" not in stored(database).manifest
    with pytest.raises(UserError, match=r"10\.0% → 10\.5 %"):
        open_(database, margin="10.5 %")
