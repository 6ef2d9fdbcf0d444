"""An engine that was chosen for an earlier study of the same problem is used again, and only then."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from relaxbench.problems import problem
from relaxbench.store.engines import describe_engine
from relaxbench.study.execution import engine_request
from relaxbench.study.execution.engine_request import EngineRequest
from relaxbench.training import engine as engines
from relaxbench.util import remembered
from tests.study import tiny
from tests.study.results import study_row


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int | None]:
    """What was measured: the requested populations."""
    calls: list[int | None] = []

    def choose(task: Any, place: torch.device, population: int | None, *others: Any) -> Any:
        calls.append(population)
        return tiny.engine(population or 8)

    tiny.set_engine(monkeypatch)
    monkeypatch.setattr(engines, "choose_engine", choose)
    monkeypatch.setattr(remembered, "KEPT_DAYS", 30.0)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 0.5, 0.5))
    monkeypatch.setenv("RELAXBENCH_CACHE", str(tmp_path / "cache"))
    return calls


def test_the_next_study_of_a_problem_measures_nothing_and_has_the_same_results(
    tmp_path: Path, chosen: list[int | None]
) -> None:
    s = tiny.spec(methods=["sgd"], looks=[1], exploit=0, recommend=0)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    tiny.run(tmp_path / "first", s, population=None)
    tiny.run(tmp_path / "second", s, population=None)
    assert chosen == [None]
    assert tiny.results(tmp_path / "first") == tiny.results(tmp_path / "second")
    first, second = (study_row(tmp_path / name).manifest["engines"]["rosenbrock"] for name in ("first", "second"))
    assert first["measured"] == "" and {**second, "measured": ""} == first
    assert f"; measured on {second['measured']}" in describe_engine("rosenbrock", second)[0]
    assert "measured" not in describe_engine("rosenbrock", first)[0]


def test_another_problem_request_or_memory_is_measured(
    chosen: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = EngineRequest(problem("rosenbrock"), torch.device("cpu"), None, "float32", (), "auto", 64)
    identity: Any = {"probe": [1.0]}
    assert request.choose_once(identity).measured == ""
    assert request.choose_once(identity).measured and len(chosen) == 1
    assert replace(request, ready=10**6).choose_once(identity).measured == "" and len(chosen) == 2
    for other in (replace(request, population=4), replace(request, precision="float64"), replace(request, ready=3)):
        assert other.choose_once(identity).measured == ""
    another: Any = {"probe": [2.0]}
    assert request.choose_once(another).measured == "" and len(chosen) == 6
    monkeypatch.setattr(engine_request, "sizes_that_fit", lambda *_: [])
    assert request.choose_once(identity).measured == "" and len(chosen) == 7


def test_a_file_with_something_else_is_measured_again(tmp_path: Path, chosen: list[int | None]) -> None:
    request = EngineRequest(problem("rosenbrock"), torch.device("cpu"), None, "float32", (), "auto", 64)
    identity: Any = {"probe": [1.0]}
    request.choose_once(identity)
    (file,) = (tmp_path / "cache").iterdir()
    stored = json.loads(file.read_text())
    for facts in ({}, {**stored["facts"], "path": "fast"}, {**stored["facts"], "population": "many"}):
        file.write_text(json.dumps({**stored, "facts": facts}))
        before = len(chosen)
        assert request.choose_once(identity).measured == "" and len(chosen) == before + 1
    assert request.choose_once(identity).measured
