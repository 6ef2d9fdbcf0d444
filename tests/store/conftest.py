from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert

from relaxbench.store import claims
from relaxbench.store.database import open_database
from relaxbench.store.schema import Study, Trial


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "study.db"


@pytest.fixture
def database(file: Path) -> Iterator[Engine]:
    """A database with one study of 12 waiting trials: two methods, two phases."""
    engine = open_database(str(file))
    add_study(engine)
    yield engine
    engine.dispose()


def add_study(engine: Engine, trials: int = 12) -> None:
    plain = {"problem": "digits-mlp", "block": 0, "parent": 0, "params": {"lr": 0.1}, "status": "waiting"}
    places = [("sgd", "explore"), ("sgd", "confirm"), ("heat", "explore")]
    with engine.begin() as connection:
        now = dt.datetime(2026, 1, 1)
        connection.execute(insert(Study).values(name="s", spec={}, source="", manifest={}, created_at=now))
        for number in range(trials):
            method, phase = places[number % 3]
            seed = 2**62 + number
            row = {"study_id": 1, "method": method, "phase": phase, "number": number, "seed": seed, **plain}
            connection.execute(insert(Trial).values(**row, measures={}, ledger={}))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test can turn: its only entry is the time."""
    now = [time.time()]
    monkeypatch.setattr(claims, "now", lambda connection: now[0])
    return now
