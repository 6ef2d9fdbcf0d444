"""More workers than a server has connections: none is kept for nothing, and who gets none tries again."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import Engine, make_url, text

from relaxbench.errors import UserError
from relaxbench.store import connections
from relaxbench.store import database as module
from relaxbench.store.claims import Claims, Result
from relaxbench.store.connections import IDLE_SECONDS
from relaxbench.store.database import open_database
from relaxbench.store.schema import Trial
from tests import postgres
from tests.store.conftest import add_study
from tests.store.test_postgresql import in_threads

CONNECTIONS = 10
TRIALS = 360
CLAIMED = TRIALS * 2 // 3
"""Of the trials that `add_study` makes, those of one method."""


@pytest.fixture(scope="module")
def small() -> Iterator[postgres.Server]:
    """A server with few connections."""
    postgres.require()
    server = postgres.Server(settings={"max_connections": CONNECTIONS})
    try:
        server.start()
        yield server
    finally:
        server.remove()


def sessions(server: postgres.Server, url: str) -> int:
    """Connections to a database."""
    name = make_url(url).database
    return int(server.execute(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'")[0][0])


def use(engine: Engine) -> int:
    """The server's process at the other end."""
    with engine.begin() as connection:
        return int(connection.scalar(text("SELECT pg_backend_pid()")) or 0)


def test_a_connection_is_not_closed_while_it_is_pinged(
    server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_database(server.new_url())
    known, ping = use(engine), engine.dialect.do_ping

    def slow(connection: object) -> bool:
        time.sleep(4 * IDLE_SECONDS)
        return ping(connection)

    monkeypatch.setattr(engine.dialect, "do_ping", slow)
    assert [use(engine) for _ in range(3)] == [known] * 3
    engine.dispose()


def test_a_connection_serves_a_burst_and_is_closed_when_idle(
    server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "IDLE_SECONDS", 1.0)  # longer than a busy machine pauses between two uses
    url = server.new_url()
    engine = open_database(url)
    processes = {use(engine) for _ in range(20)}
    assert len(processes) == 1
    assert sessions(server, url) == 1
    deadline = time.monotonic() + 20
    while sessions(server, url) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert sessions(server, url) == 0
    assert use(engine) not in processes
    engine.dispose()


def test_24_workers_share_10_connections(small: postgres.Server) -> None:
    url = small.new_url()
    engine = open_database(url)
    add_study(engine, TRIALS)
    engine.dispose()
    taken: list[int] = []

    def work(i: int) -> None:
        mine = open_database(url)
        claims = Claims(mine, 1, f"worker {i}")
        while got := claims.take("digits-mlp", "sgd", 2):
            taken.extend(trial.id for trial in got)
            time.sleep(0.05)
            claims.finish([Result(t.id, t.token, 0.5, False, {}, {}, b"c") for t in got])
        mine.dispose()

    in_threads(24, work)
    assert len(taken) == len(set(taken)) == CLAIMED
    engine = open_database(url)
    assert Claims(engine, 1).count(Trial.status == "done") == CLAIMED
    engine.dispose()


def full(server: postgres.Server) -> list[psycopg.Connection]:
    """All connections that a server has."""
    taken = []
    try:
        while True:
            taken.append(psycopg.connect(host=str(server.folder), user="tester", dbname="postgres"))
    except psycopg.OperationalError:
        return taken


def test_a_full_server_is_waited_for_and_then_said_to_be_full(
    small: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = small.new_url()
    held = full(small)
    try:
        monkeypatch.setattr(module, "CROWDED_SECONDS", 0.5)
        with pytest.raises(UserError, match="too many clients already"):
            open_database(url)
        monkeypatch.undo()

        def make_room(i: int) -> None:
            time.sleep(1.0)
            held.pop().close()
            held.pop().close()

        opened: list[Engine] = []
        in_threads(2, lambda i: make_room(i) if i else opened.append(open_database(url)))
        assert use(opened[0]) > 0
        opened[0].dispose()
    finally:
        for connection in held:
            connection.close()
