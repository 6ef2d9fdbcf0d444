"""A short run of the most frequent faults; and differences from an undisturbed study are reported."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import update

from relaxbench.store.schema import Trial
from relaxbench.stress import disturbed_study, faults
from relaxbench.stress.comparison import Expected, differences
from relaxbench.stress.disturbed_study import DisturbedStudy
from relaxbench.stress.simulated import Load
from relaxbench.study.coordination.supervisor import Supervisor
from tests.postgres import Server
from tests.processes import Forked

SHORT = Load(seconds=0.1, rounds=4, looks=(6, 8), trials=2, exploit=5, recommend=2, checkpoints=True)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "KILLS", 2)
    monkeypatch.setattr(faults, "OUTAGES", 1)
    monkeypatch.setattr(faults, "AWAY_SECONDS", 1.0)
    monkeypatch.setattr(faults, "DisturbedStudy", partial(DisturbedStudy, workers=2))
    monkeypatch.setattr(disturbed_study, "Supervisor", partial(Supervisor, start=forked))


def forked(command: list[str], environment: Mapping[str, str], log: Path) -> Forked:
    """A worker's process that begins at once; those of the command are `start_process`'s."""
    with log.open("ab") as output, open(os.devnull) as nothing:
        return Forked(command[1:], env=environment, stdin=nothing, stdout=output, stderr=output)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Expected:
    return faults.reference(tmp_path_factory.mktemp("reference"), SHORT)


@pytest.mark.parametrize(("fault", "backend"), [("kill", "SQLite"), ("outage", "PostgreSQL"), ("memory", "PostgreSQL")])
def test_a_study_survives(fault: str, backend: str, tmp_path: Path, server: Server, expected: Expected) -> None:
    survived = faults.suffer(fault, backend, tmp_path, server, expected, SHORT)
    assert survived.wrong == [] and survived.times >= 1
    assert survived.restarts == {"kill": 2, "outage": 0, "memory": 1}[fault]


def test_differences_are_reported(tmp_path: Path, expected: Expected) -> None:
    """A study that differs from an undisturbed one in three ways."""
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    run = DisturbedStudy(storage, tmp_path, "spoiled", load=replace(SHORT, seconds=0.0), workers=1)
    run.run()
    assert differences(run, expected) == []
    with run.database.begin() as connection:
        connection.execute(update(Trial).where(Trial.phase == "confirm", Trial.method == "sgd").values(value=9.0))
        connection.execute(update(Trial).where(Trial.phase == "explore", Trial.number == 0).values(status="running"))
    wrong = differences(run, expected)
    run.database.dispose()
    assert any(line.endswith("trials have other results") for line in wrong)
    assert "trials are still running" in wrong and "the verdict table differs" in wrong
