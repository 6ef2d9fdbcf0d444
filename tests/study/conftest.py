"""Studies that a clock does not steer."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from relaxbench.training import engine as engines
from tests.study import tiny


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's path and a gradient's cost are set, not measured: two studies of a test then agree in both."""
    monkeypatch.setattr(
        engines, "choose_engine", lambda problem, place, k=None, precision="float32": tiny.engine(k or 8)
    )
    monkeypatch.setattr(engines, "calibrate", lambda *arguments, **options: dict(tiny.COST))


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """The results of the tiny study, run without an interruption."""
    folder: Path = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "choose_engine", lambda problem, place, k=None, precision="float32": tiny.engine(k or 8))
        patch.setattr(engines, "calibrate", lambda *arguments, **options: dict(tiny.COST))
        tiny.run(folder, tiny.spec())
    return tiny.results(folder)


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Processes of their own for little: the server has imported everything and forks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.study.tiny", "relaxbench.study.execution.run", "optuna"])
    return context
