"""The manifest: changed by one at a time, and turns, which one worker alone has at a time."""

from __future__ import annotations

import platform
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from relaxbench.store.claims import worker_name
from relaxbench.store.database import open_database
from relaxbench.study.coordination.manifest import TURN_SECONDS, edit_manifest, read_manifest, turn
from tests.store.conftest import add_study

DEAD = f"{platform.node()}:999999999:0"
FAR = "elsewhere:1:0"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(str(tmp_path / "study.db"))
    add_study(engine)
    yield engine
    engine.dispose()


def test_a_turn_is_one_workers_until_it_gives_it_back_dies_or_is_not_heard_of(database: Engine) -> None:
    me = worker_name()
    with turn(database, 1, "mirror", me) as first:
        with turn(database, 1, "mirror", FAR) as second, turn(database, 1, "other", FAR) as other:
            assert (first, second, other) == (True, False, True)
        with turn(database, 1, "mirror", FAR) as again:
            assert not again  # the refused one has not given back what was not its own
    assert read_manifest(database, 1)["turns"] == {}
    left = [turn(database, 1, "mirror", DEAD)]  # kept: one that is collected gives its turn back
    left[0].__enter__()
    with turn(database, 1, "mirror", me) as after_a_death:
        assert after_a_death
    left.append(turn(database, 1, "mirror", FAR))
    left[1].__enter__()
    with turn(database, 1, "mirror", me) as too_early:
        assert not too_early
    edit_manifest(database, 1, lambda m: m["turns"]["mirror"].update(until=0.0))
    with turn(database, 1, "mirror", me) as late:
        assert late


def test_a_turn_ends_with_an_error_too(database: Engine) -> None:
    def fail() -> None:
        assert read_manifest(database, 1)["turns"]["measure"]["until"] > TURN_SECONDS
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), turn(database, 1, "measure", worker_name()):
        fail()
    assert read_manifest(database, 1)["turns"] == {}


def test_a_turn_that_another_has_taken_over_is_not_given_back(database: Engine) -> None:
    """A worker that slept for an hour and goes on."""
    with turn(database, 1, "measure", FAR):
        edit_manifest(database, 1, lambda m: m["turns"]["measure"].update(until=0.0))
        late = turn(database, 1, "measure", worker_name())
        assert late.__enter__()
    assert read_manifest(database, 1)["turns"]["measure"]["worker"] == worker_name()
    late.__exit__(None, None, None)
    assert read_manifest(database, 1)["turns"] == {}


def test_edits_of_many_at_once_are_all_kept(database: Engine, tmp_path: Path) -> None:
    edit_manifest(database, 1, lambda manifest: manifest.update(deep={"numbers": []}, count=0))

    def work(i: int) -> None:
        engine = open_database(str(tmp_path / "study.db"))
        for n in range(10):

            def edit(manifest: dict, n: int = n) -> None:
                manifest["count"] += 1
                manifest["deep"]["numbers"].append([i, n])

            edit_manifest(engine, 1, edit)
        engine.dispose()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    manifest = read_manifest(database, 1)
    assert manifest["count"] == 50
    assert sorted(manifest["deep"]["numbers"]) == [[i, n] for i in range(5) for n in range(10)]


def test_a_refused_turn_writes_nothing(database: Engine) -> None:
    """Many may be waiting for one who measures."""
    written: list[str] = []

    def listen(connection: object, cursor: object, statement: str, *_: object) -> None:
        written.extend([statement] if statement.startswith("UPDATE") else [])

    with turn(database, 1, "measure", worker_name()):
        event.listen(database, "before_cursor_execute", listen)
        with turn(database, 1, "measure", FAR) as granted:
            assert not granted
        assert edit_manifest(database, 1, lambda manifest: None)["turns"]
        event.remove(database, "before_cursor_execute", listen)
    assert written == []


def test_a_study_that_is_not_there_has_an_empty_manifest(database: Engine) -> None:
    assert read_manifest(database, 7) == {}
