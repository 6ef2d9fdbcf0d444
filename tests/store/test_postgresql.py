"""The same promises on a PostgreSQL server, where one can be started here: claims lock rows, not the whole file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, delete, select, text

from relaxbench.store.claims import Claims, Result
from relaxbench.store.database import open_database
from relaxbench.store.migrations import HEAD
from relaxbench.store.schema import Curve, Trial
from tests.postgres import Server
from tests.store.conftest import add_study


@pytest.fixture
def url(server: Server) -> str:
    return server.new_url()


@pytest.fixture
def database(url: str) -> Iterator[Engine]:
    engine = open_database(url)
    add_study(engine, 60)
    yield engine
    engine.dispose()


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run `work(0) … work(count − 1)` at once; the first error is raised here."""
    errors: list[BaseException] = []

    def guarded(i: int) -> None:
        try:
            work(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_many_may_open_a_new_database_at_once(url: str) -> None:
    in_threads(8, lambda _: open_database(url).dispose())
    engine = open_database(url)
    with engine.connect() as connection:
        assert connection.scalars(text("SELECT version_num FROM relaxbench_version")).all() == [HEAD]
    engine.dispose()


def test_seeds_of_63_bits_survive(database: Engine) -> None:
    with database.connect() as connection:
        seeds = connection.scalars(select(Trial.seed).order_by(Trial.id)).all()
    assert seeds == [2**62 + number for number in range(60)]


def test_workers_never_get_the_same_trial_and_every_trial_is_finished_once(database: Engine, url: str) -> None:
    taken: list[int] = []

    def work(i: int) -> None:
        engine = open_database(url)
        claims = Claims(engine, 1, f"worker {i}")
        while got := claims.take("digits-mlp", "sgd", 2):
            taken.extend(trial.id for trial in got)
            claims.renew()
            assert claims.finish([Result(t.id, t.token, 0.5, False, {}, {}, b"c") for t in got]) == len(got)
        engine.dispose()

    in_threads(5, work)
    assert len(taken) == len(set(taken)) == 40
    with database.connect() as connection:
        assert sorted(connection.scalars(select(Curve.trial_id))) == sorted(taken)


def test_an_old_token_s_result_is_dropped(database: Engine) -> None:
    slow, quick = Claims(database, 1, "slow"), Claims(database, 1, "quick")
    (old,) = slow.take("digits-mlp", "sgd", 1)
    slow.release()
    (new,) = quick.take("digits-mlp", "sgd", 1)
    assert (new.id, new.token) == (old.id, 2)
    assert slow.finish([Result(old.id, old.token, 9.0, False, {}, {}, b"old")]) == 0
    assert quick.finish([Result(new.id, new.token, 0.5, False, {}, {}, b"new")]) == 1
    with database.connect() as connection:
        assert connection.scalars(select(Curve.data)).all() == [b"new"]


def test_finishing_is_all_or_nothing(database: Engine) -> None:
    mine = Claims(database, 1, "me")
    first, second = mine.take("digits-mlp", "sgd", 2)
    with database.begin() as connection:  # its curve cannot be stored twice
        connection.execute(Curve.__table__.insert().values(trial_id=second.id, data=b"in the way"))  # type: ignore[attr-defined]
    results = [Result(trial.id, trial.token, 0.5, False, {}, {}, b"c") for trial in (first, second)]
    with pytest.raises(Exception, match="relaxbench_curves"):
        mine.finish(results)
    assert mine.count(Trial.status == "done") == 0
    with database.begin() as connection:
        connection.execute(delete(Curve))
    assert mine.finish(results) == 2
