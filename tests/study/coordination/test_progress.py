"""Progress that is counted in SQL, against a plain count in Python over any rows that a study may have."""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, insert, update

from relaxbench.store.database import open_database
from relaxbench.store.schema import PHASES, Study, Trial
from relaxbench.study.coordination.plan import Plan, Size
from relaxbench.study.coordination.progress import Progress, tally
from tests.store.conftest import add_study
from tests.study import tiny

STATES = ("waiting", "running", "failed", "done")
PLACES = (("p", "a"), ("p", "b"), ("q", "a"))


@st.composite
def studies(draw: st.DrawFn) -> tuple[Size, list[dict[str, Any]]]:
    """A size and rows; some confirm what no longer wins, as after an extension, and few values make ties."""
    size = Size(0, draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(0, 3)), draw(st.integers(0, 2)))
    rows: list[dict[str, Any]] = []

    def add(place: tuple[str, str], phase: str, block: int, number: int, parent: int = 0) -> None:
        status = draw(st.sampled_from((*STATES, "done", "done", "done")))
        value = draw(st.sampled_from((0.1, 0.2, 0.3, 5.0))) if status == "done" else None
        where = {"problem": place[0], "method": place[1], "phase": phase, "block": block, "number": number}
        rows.append({"id": len(rows) + 1, **where, "parent": parent, "status": status, "value": value})

    for place in PLACES:
        searched = []
        for block in range(size.blocks):
            for number in range(size.trials):
                searched.append(len(rows) + 1)
                add(place, "explore", block, number)
        for number in range(size.exploit):
            searched.append(len(rows) + 1)
            add(place, "exploit", number // 4, number)
        for parent in draw(st.lists(st.sampled_from(searched), unique=True, max_size=6)):
            if rows[parent - 1]["phase"] == "explore":
                add(place, "confirm", rows[parent - 1]["block"], 0, parent)
        for parent in draw(st.lists(st.sampled_from(searched), unique=True, max_size=2)):
            for number in range(size.recommend):
                add(place, "recommend", 0, number, parent)
    return size, rows


def plain(size: Size, rows: list[dict[str, Any]], problem: str, method: str) -> Progress:
    """What `tally` says, in words of everyday Python."""
    mine = [row for row in rows if (row["problem"], row["method"]) == (problem, method)]
    done = [row for row in mine if row["status"] == "done"]
    explored = [row for row in done if row["phase"] == "explore"]
    searched = [row for row in done if row["phase"] in ("explore", "exploit")]
    leading = {}
    for block in range(size.blocks):
        here = [row for row in explored if row["block"] == block]
        if len(here) == size.trials:
            leading["confirm", block] = min(here, key=lambda row: (row["value"], row["id"]))["id"]
    if len(searched) == size.blocks * size.trials + size.exploit:
        leading["recommend", 0] = min(searched, key=lambda row: (row["value"], row["id"]))["id"]
    children = [row for row in done if row["parent"] and leading.get((row["phase"], row["block"])) == row["parent"]]
    running = {phase: sum((row["phase"], row["status"]) == (phase, "running") for row in mine) for phase in PHASES}
    return Progress(
        problem,
        method,
        done=len(searched) + len(children),
        total=size.blocks * (size.trials + 1) + size.exploit + size.recommend,
        failed=sum(row["status"] == "failed" for row in mine),
        best=min((row["value"] for row in done), default=math.inf),
        running={phase: count for phase, count in running.items() if count},
        phases=dict(Counter(row["phase"] for row in [*searched, *children])),
    )


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Any:
    engine = open_database(str(tmp_path_factory.mktemp("tally") / "study.db"))
    add_study(engine, 0)
    about = {"spec": {}, "source": "", "manifest": {}}
    with engine.begin() as connection:
        connection.execute(insert(Study).values(name="other", created_at=datetime(2026, 1, 1), **about))
        row = {"problem": "p", "method": "a", "phase": "explore", "block": 0, "number": 0, "parent": 0, "seed": 0}
        connection.execute(insert(Trial).values(id=10**6, study_id=2, params={}, status="done", value=-1.0, **row))
    yield engine
    engine.dispose()


@settings(max_examples=60)
@given(studies())
def test_progress_is_what_a_plain_count_says(database: Engine, given_: tuple[Size, list[dict[str, Any]]]) -> None:
    size, rows = given_
    with database.begin() as connection:
        connection.execute(delete(Trial).where(Trial.study_id == 1))
        plain_rows = {"study_id": 1, "seed": 0, "params": {}, "measures": {}, "ledger": {}}
        connection.execute(insert(Trial), [{**row, **plain_rows} for row in rows])
    plans = [Plan(database, 1, "s", size, *place, {}, {}) for place in PLACES]
    assert tally(plans) == [plain(size, rows, *place) for place in PLACES]
    assert tally(plans[1:2]) == [plain(size, rows, *PLACES[1])]  # a part of the study


@pytest.mark.usefixtures("steady")
def test_of_an_extended_study_only_what_counts_is_counted(tmp_path: Path) -> None:
    """Confirmations of a block's earlier winner are kept, and do not count: what it lacks is told, and run."""
    s = tiny.spec(methods=["sgd"], blocks=3, exploit=0, recommend=1)
    tiny.run(tmp_path, s)
    database = open_database(str(tmp_path / "study.db"))
    with database.begin() as connection:  # one settings that was confirmed turns out to be very bad
        first = Trial.phase == "explore", Trial.block == 0
        connection.execute(update(Trial).where(*first).values(value=90.0))
    database.dispose()
    summary = tiny.run(tmp_path, s.model_copy(update={"trials": 3}))
    assert summary.missing == 0 and summary.total == 3 * 4 + 1 and summary.ran >= 3 + 1
    confirmed = [row for row in tiny.rows(tmp_path) if (row.phase, row.block) == ("confirm", 0)]
    assert len(confirmed) == 2
