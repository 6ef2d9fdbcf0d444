"""The rows of workers: a session arrives, gives signs of life and leaves."""

from __future__ import annotations

import platform
import time
from typing import Any

import pytest
from sqlalchemy import Engine, event, update

from relaxbench.store import workers as module
from relaxbench.store.claims import LEASE_SECONDS, Claims, worker_name
from relaxbench.store.schema import Worker
from relaxbench.store.workers import arrive, at_work, workers


def one(database: Engine, **values: Any) -> Any:
    """The only row, after a change by hand."""
    if values:
        with database.begin() as connection:
            connection.execute(update(Worker).values(**values))
    (row,) = workers(database, 1)
    return row


def test_a_session_is_stored_from_its_arrival_to_its_end(database: Engine) -> None:
    presence = arrive(database, 1, worker_name(), "cuda:1", {"torch": "2.9"})
    row = one(database)
    assert (row.name, row.device, row.about) == (worker_name(), "cuda:1", {"torch": "2.9"})
    assert (row.doing, row.finished, row.running, row.ended_at) == ("", 0, 0, None)
    assert row.started_at == row.seen_at and abs(row.started_at - time.time()) < 5 and at_work(row)
    claims = Claims(database, 1)
    claims.take("digits-mlp", "sgd", 3)
    presence.doing, presence.finished = "digits-mlp sgd", 7
    presence.seen()
    later = one(database)
    assert (later.doing, later.finished, later.running) == ("digits-mlp sgd", 7, 3)
    assert later.seen_at >= row.seen_at and 0 <= later.silent < 5
    claims.release()
    presence.leave()
    left = one(database)
    assert (left.doing, left.finished, left.running) == ("", 7, 0) and left.ended_at == left.seen_at
    assert not at_work(left)
    presence.leave()  # once is enough
    assert one(database).ended_at == left.ended_at


def test_sessions_are_told_in_their_order_and_by_study(database: Engine) -> None:
    for name in ("b", "a", "b"):
        arrive(database, 1, name, "cpu", {})
    assert [row.name for row in workers(database, 1)] == ["b", "a", "b"] and workers(database, 2) == []


def test_live_silent_and_ended_workers_are_told_apart(database: Engine) -> None:
    arrive(database, 1, worker_name(), "cpu", {})
    assert at_work(one(database))
    assert not at_work(one(database, name=f"{platform.node()}:{2**22 + 1}:1000"))
    assert at_work(one(database, name="elsewhere:1:1000"))  # nobody can know, until it has been silent for a lease
    assert not at_work(one(database, seen_at=time.time() - LEASE_SECONDS - 5))


def test_a_worker_that_ends_does_not_wait_for_a_database_that_is_away(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.exc import OperationalError

    presence = arrive(database, 1, "me", "cpu", {})
    monkeypatch.setattr(module, "COURTESY_SECONDS", 0.2)

    def away(connection: Any) -> None:
        raise OperationalError("BEGIN", None, Exception("away"), connection_invalidated=True)

    event.listen(database, "begin", away)
    begin = time.monotonic()
    presence.leave()
    event.remove(database, "begin", away)
    assert time.monotonic() - begin < 5 and one(database).ended_at is None
