"""Studies that a clock does not steer."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from tests.shared import built_once
from tests.study import tiny


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's path and a gradient's cost are set, not measured: two studies of a test then agree in both."""
    tiny.set_engine(monkeypatch)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """The results of the tiny study, run without an interruption."""

    def build(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            tiny.set_engine(patch)
            tiny.run(folder, tiny.spec(), population=8)

    return tiny.results(built_once(tmp_path_factory, "whole", build))


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Processes of their own for little: the server has imported everything and forks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["tests.study.tiny", "relaxbench.study.execution.run", "optuna", "alembic.runtime.migration"]
    )
    return context
