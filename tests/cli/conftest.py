"""A folder to run commands in, and studies to run them on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine

from relaxbench.cli.console import console
from relaxbench.optim.registry import RULES
from relaxbench.store.database import open_database
from relaxbench.theory import summary
from tests.cli.commands import SPEC
from tests.shared import built_once
from tests.study import tiny

few_particles = partial(summary.theorems, particles=500)
"""The usual 20,000 take seconds, and are for the tests of the theory."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run in, with a wide console that is no terminal; reports have little theory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(summary, "theorems", few_particles)
    monkeypatch.setattr(console, "width", 300)
    monkeypatch.delenv("RELAXBENCH_DATA", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the database of a finished study of digits."""
    size = {"looks": [1], "trials": 1, "exploit": 0, "recommend": 1, "budget": 75, "flatness": False}
    methods = [name for name, rule in RULES.items() if not rule.compares_losses]  # mini-batches change
    s = tiny.spec(name="small", problems=["digits-mlp"], methods=methods, **size)

    def build(place: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            tiny.set_engine(patch)
            tiny.run(place, s, population=16)

    return built_once(tmp_path_factory, "finished", build)


@pytest.fixture
def storage(finished: Path) -> str:
    return f"sqlite:///{finished / 'study.db'}"


@pytest.fixture
def study_file(folder: Path) -> Path:
    """The folder, with the file of the study `SPEC`."""
    (folder / "tiny.toml").write_text(tiny.file(SPEC))
    return folder


@pytest.fixture
def database(study_file: Path) -> Iterator[Engine]:
    """A database in which the study `SPEC` has begun, and everything that a clock decides is decided."""
    engine = open_database("study.db")
    tiny.settle(engine, SPEC)
    yield engine
    engine.dispose()
