"""Turns: what one worker alone may do at a time."""

from __future__ import annotations

import platform
from pathlib import Path

from relaxbench.store.claims import worker_name
from relaxbench.store.database import open_database
from relaxbench.study import record
from tests.store.conftest import add_study

DEAD = f"{platform.node()}:999999999:0"


def test_a_turn_is_one_workers_until_it_gives_it_back_dies_or_is_not_heard_of(tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "study.db"))
    add_study(database)
    me, far = worker_name(), "elsewhere:1:0"
    with record.turn(database, 1, "mirror", me) as first:
        with record.turn(database, 1, "mirror", far) as second, record.turn(database, 1, "other", far) as other:
            assert (first, second, other) == (True, False, True)
        with record.turn(database, 1, "mirror", far) as again:
            assert not again  # the refused one has not given back what was not its own
    turns = record.read_manifest(database, 1)["turns"]
    assert turns == {}
    left = [record.turn(database, 1, "mirror", DEAD)]  # kept: one that is collected gives its turn back
    left[0].__enter__()
    with record.turn(database, 1, "mirror", me) as after_a_death:
        assert after_a_death
    left.append(record.turn(database, 1, "mirror", far))
    left[1].__enter__()
    with record.turn(database, 1, "mirror", me) as too_early:
        assert not too_early
    record.edit_manifest(database, 1, lambda m: m["turns"]["mirror"].update(until=0.0))
    with record.turn(database, 1, "mirror", me) as late:
        assert late
    database.dispose()
