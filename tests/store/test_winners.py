"""One rule for the winner: its forms in Python, SQL and pandas pick the same trial, whatever the values and ids."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, func, insert, select

from relaxbench.store.database import open_database
from relaxbench.store.schema import PHASES, SEARCHED, Trial
from relaxbench.store.winners import (
    best_rows_so_far,
    best_so_far,
    ranking,
    winner_of_complete_search,
)
from tests.postgres import Server
from tests.store.conftest import add_study

COLUMNS = (Trial.id, Trial.method, Trial.phase, Trial.block, Trial.number, Trial.value)
VALUES = (0.1, 0.1, 0.2, 10.0, 10.0, math.inf, math.nan, None)


@st.composite
def tables(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Finished trials of two methods: few values, so that many are equal, and ids that follow no order."""
    places = [
        {"method": method, "phase": phase, "block": block, "number": number}
        for method in ("sgd", "heat")
        for phase in SEARCHED
        for block in range(3)
        for number in range(3)
    ]
    chosen = draw(st.lists(st.sampled_from(places), unique_by=lambda place: tuple(place.values()), min_size=1))
    ids = random.Random(draw(st.integers(0, 1000))).sample(range(1, 1000), len(chosen))
    return [
        {"id": id_, "value": draw(st.sampled_from(VALUES)), **place} for id_, place in zip(ids, chosen, strict=True)
    ]


def by_hand(rows: Sequence[Any]) -> int:
    """The winner's id: finite values before others, then the plan's order."""
    finite = [row for row in rows if row.value is not None and math.isfinite(row.value)]
    lowest = [row for row in finite if row.value == min(other.value for other in finite)] or list(rows)
    places = {(PHASES.index(row.phase), row.block, row.number): row.id for row in lowest}
    return int(places[min(places)])


def stored(database: Engine, table: list[dict[str, Any]]) -> tuple[list[Any], dict[str, int]]:
    """The rows of a table as the database returns them, and the winner of every method by SQL."""
    neutral = {"study_id": 1, "problem": "p", "parent": 0, "seed": 0, "params": {}, "measures": {}, "ledger": {}}
    rank = func.row_number().over(partition_by=Trial.method, order_by=ranking()).label("rank")
    ranked = select(Trial.id, Trial.method, rank).subquery()
    with database.begin() as connection:
        connection.execute(delete(Trial))
        connection.execute(insert(Trial), [{**row, **neutral, "status": "done"} for row in table])
        rows = list(connection.execute(select(*COLUMNS).order_by(Trial.id)).all())
        first = connection.execute(select(ranked.c.method, ranked.c.id).where(ranked.c.rank == 1)).all()
    return rows, {row.method: row.id for row in first}


def check(database: Engine, table: list[dict[str, Any]]) -> None:
    rows, by_sql = stored(database, table)
    by_method = {method: [row for row in rows if row.method == method] for method in by_sql}
    assert by_sql == {method: by_hand(group) for method, group in by_method.items()}
    winners = {method: best_so_far(group) for method, group in by_method.items()}
    assert {method: winner.id for method, winner in winners.items() if winner} == by_sql
    frame = pd.DataFrame([tuple(row) for row in rows], columns=[column.key for column in COLUMNS])
    frame = frame.astype({"value": float}).sample(frac=1, random_state=0)
    assert best_rows_so_far(frame, ["method"]).set_index("method")["id"].to_dict() == by_sql
    for method, winner in by_sql.items():
        assert best_rows_so_far(frame[frame["method"] == method])["id"].tolist() == [winner]


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = open_database(str(tmp_path_factory.mktemp("winners") / "study.db"))
    add_study(engine, 0)
    yield engine
    engine.dispose()


@settings(max_examples=80)
@given(tables())
def test_sql_pandas_and_python_pick_the_same_trial(sqlite: Engine, table: list[dict[str, Any]]) -> None:
    check(sqlite, table)


def test_postgresql_and_sqlite_rank_trials_alike(server: Server) -> None:
    """PostgreSQL stores NaN, where SQLite stores NULL."""
    engine = open_database(server.new_url())
    try:
        add_study(engine, 0)
        values = [None, math.nan, math.inf, 3.0, 2.0, 2.0]
        for count in range(1, len(values) + 1):
            places = [{"method": "sgd", "phase": "explore", "block": 0, "number": 9 - i} for i in range(count)]
            check(engine, [{"id": i + 1, "value": values[i], **place} for i, place in enumerate(places)])
    finally:
        engine.dispose()


def trial(id_: int, block: int, number: int, value: float, phase: str = "explore") -> Trial:
    return Trial(id=id_, phase=phase, block=block, number=number, value=value)


def test_only_a_complete_search_has_a_winner() -> None:
    trials = [trial(1, 0, 1, 0.2), trial(2, 0, 0, 0.2), trial(3, 1, 0, 0.1)]
    assert winner_of_complete_search(trials, 4) is None
    assert winner_of_complete_search(trials, 3) is trials[2]
    assert best_so_far([]) is None and best_so_far(trials) is trials[2]


def test_among_equal_trials_random_search_wins_whatever_the_ids() -> None:
    """An extended study has random trials with later ids than TPE's; a study begun at that size does not."""
    tpe, late = trial(1, 0, 0, 0.1, "exploit"), trial(2, 5, 7, 0.1)
    assert best_so_far([tpe, late]) is late
