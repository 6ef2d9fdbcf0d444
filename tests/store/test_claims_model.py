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

TRIALS, WORKERS, RETRIES = 4, 3, 2
EVENTS = ["take", "take", "alone", "finish", "release", "fail", "renew", "expire", "reap"]
STEPS = st.lists(st.tuples(st.integers(0, WORKERS - 1), st.sampled_from(EVENTS), st.integers(1, 3)), max_size=40)


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


class Model:
    """What should be true of the trials: plain Python, one trial a row."""

    def __init__(self) -> None:
        numbers = range(1, TRIALS + 1)
        self.status = dict.fromkeys(numbers, "waiting")
        self.token = dict.fromkeys(numbers, 0)
        self.failures = dict.fromkeys(numbers, 0)
        self.value: dict[int, float | None] = dict.fromkeys(numbers, None)
        self.expired: set[int] = set()

    def free(self, alone: bool) -> list[int]:
        return [t for t, s in self.status.items() if s == "waiting" and (self.failures[t] >= RETRIES) == alone]

    def held(self, tokens: dict[int, int], *states: str) -> list[int]:
        return [t for t, token in tokens.items() if self.token[t] == token and self.status[t] in states]

    def fail(self, trials: list[int]) -> None:
        for trial in trials:
            self.status[trial] = "failed" if self.failures[trial] >= RETRIES else "waiting"
            self.failures[trial] += 1
            self.expired.discard(trial)


@settings(max_examples=60)
@given(STEPS)
def test_any_order_of_events_leaves_at_most_one_result_a_trial(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str, int]]
) -> None:
    engine = waiting(tmp_path_factory.mktemp("model") / "a.db")
    workers = [Claims(engine, 1, f"elsewhere-{i}:1:1", retries=RETRIES) for i in range(WORKERS)]
    model = Model()
    for number, (i, event, count) in enumerate(steps):
        worker, tokens = workers[i], dict(workers[i].tokens)
        match event:
            case "take" | "alone":
                alone = event == "alone"
                here = {*tokens, *worker.lost}  # still being worked on here: nobody runs a trial twice at once
                taken = [t for t in model.free(alone) if t not in here][: 1 if alone else count]
                assert [trial.id for trial in worker.take("p", "m", count, alone)] == taken
                for trial in taken:
                    model.status[trial], model.token[trial] = "running", model.token[trial] + 1
            case "finish":
                tokens = dict(list(tokens.items())[:count])
                counted = model.held(tokens, "running", "waiting", "failed")
                results = [Result(t, token, float(number), False, {}, {}, b"") for t, token in tokens.items()]
                assert worker.finish(results) == len(counted)
                for trial in counted:
                    model.status[trial], model.value[trial] = "done", float(number)
                    model.expired.discard(trial)
            case "release":
                for trial in model.held(tokens, "running"):
                    model.status[trial] = "waiting"
                    model.expired.discard(trial)
                worker.release()
            case "fail":
                model.fail(model.held(tokens, "running"))
                worker.fail("trouble")
            case "renew":
                still = model.held(tokens, "running", "waiting")
                worker.renew()
                assert sorted(worker.tokens) == sorted(still)
                for trial in still:
                    model.status[trial] = "running"
                    model.expired.discard(trial)
            case "expire":
                for trial in [t for t, status in model.status.items() if status == "running"][:1]:
                    model.expired.add(trial)
                    with engine.begin() as connection:
                        connection.execute(update(Trial).where(Trial.id == trial).values(lease_until=0.0))
            case "reap":
                assert worker.reap() == len(model.expired)
                model.fail(list(model.expired))
    for trial, row in state(engine).items():
        assert (row.status, row.token, row.failures) == (
            model.status[trial],
            model.token[trial],
            model.failures[trial],
        )
        assert row.value == model.value[trial]
    engine.dispose()
