"""Claims in any order of events, against a model in a dictionary: who owns what, and whose results count."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, insert, select, update

from relaxbench.store.claims import Claims, Result
from relaxbench.store.database import open_database
from relaxbench.store.schema import Study, Trial

TRIALS, WORKERS = 4, 3
EVENTS = ["take", "finish", "release", "renew", "expire"]
STEPS = st.lists(st.tuples(st.integers(0, WORKERS - 1), st.sampled_from(EVENTS), st.integers(1, 3)), max_size=30)


def waiting(file: Path) -> Engine:
    """A database with one study of waiting trials."""
    engine = open_database(str(file))
    about = {"name": "s", "spec": {}, "source": "", "manifest": {}, "created_at": dt.datetime(2026, 1, 1)}
    row = {"study_id": 1, "problem": "p", "method": "m", "phase": "explore", "block": 0, "parent": 0, "seed": 0}
    rows = [{**row, "number": n, "params": {}, "measures": {}, "ledger": {}} for n in range(TRIALS)]
    with engine.begin() as connection:
        connection.execute(insert(Study).values(**about))
        connection.execute(insert(Trial), rows)
    return engine


def state(engine: Engine) -> dict[int, Any]:
    with engine.connect() as connection:
        return {row.id: row for row in connection.execute(select(Trial.__table__))}


@settings(max_examples=25)
@given(STEPS)
def test_any_order_of_events_leaves_at_most_one_result_a_trial(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str, int]]
) -> None:
    engine = waiting(tmp_path_factory.mktemp("model") / "a.db")
    workers = [Claims(engine, 1, f"elsewhere-{i}:1:1") for i in range(WORKERS)]
    owner: dict[int, int] = {}
    expired: set[int] = set()
    done: dict[int, float] = {}
    for number, (i, event, count) in enumerate(steps):
        worker = workers[i]
        mine = [trial for trial in worker.tokens if owner.get(trial) == i]
        if event == "take":
            free = [t for t in range(1, TRIALS + 1) if t not in done and (t not in owner or t in expired)][:count]
            assert [trial.id for trial in worker.take("p", "m", ("explore",), count)] == free
            owner.update(dict.fromkeys(free, i))
            expired -= set(free)
        elif event == "finish":
            tokens, now = dict(list(worker.tokens.items())[:count]), state(engine)
            current = [t for t, token in tokens.items() if t in mine and now[t].token == token]
            results = [Result(t, token, float(number), False, {}, {}, b"") for t, token in tokens.items()]
            assert worker.finish(results) == len(current)
            done.update(dict.fromkeys(current, float(number)))
            expired -= set(current)
            for trial in current:
                del owner[trial]
        elif event == "release":
            worker.release()
            expired -= set(mine)
            for trial in mine:
                del owner[trial]
        elif event == "renew":
            worker.renew()
            expired -= set(mine)
        elif owner:
            trial = min(owner)
            with engine.begin() as connection:
                connection.execute(update(Trial).where(Trial.id == trial).values(lease_until=0.0))
            expired.add(trial)
    for trial, row in state(engine).items():
        assert row.status == ("done" if trial in done else "running" if trial in owner else "waiting")
        assert row.value == done.get(trial)
    engine.dispose()
