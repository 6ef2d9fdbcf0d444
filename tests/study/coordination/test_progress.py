"""Progress that is counted in SQL, against a plain count in Python over any rows that a study may have."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, insert, update

from relaxbench.store.database import open_database
from relaxbench.store.schema import PHASES, Study, Trial
from relaxbench.study.coordination.plan import Plan
from relaxbench.study.coordination.progress import Progress, read_progress, tally
from relaxbench.study.coordination.size import Size
from tests.store.conftest import add_study
from tests.study import tiny

STATES = ("waiting", "running", "failed", "done")
PLACES = (("p", "a"), ("p", "b"), ("q", "a"))


@st.composite
def studies(draw: st.DrawFn) -> tuple[dict[tuple[str, str], Size], list[dict[str, Any]]]:
    """Sizes and rows; some confirm what is not among the best, as after a further look, and few values make ties."""
    looks = tuple(sorted(draw(st.sets(st.integers(1, 4), min_size=1, max_size=3))))
    numbers = (draw(st.integers(1, 3)), draw(st.integers(0, 3)), draw(st.integers(0, 2)), draw(st.integers(1, 2)))
    tuned = Size(0, looks, *numbers, declared=len(looks))
    published = replace(tuned, trials=0, exploit=0, recommend=0)
    sizes = {place: published if draw(st.integers(0, 4)) == 0 else tuned for place in PLACES}
    rows: list[dict[str, Any]] = []

    def add(place: tuple[str, str], phase: str, block: int, number: int, parent: int = 0) -> int:
        status = draw(st.sampled_from((*STATES, "done", "done", "done")))
        value = draw(st.sampled_from((0.1, 0.2, 0.3, 5.0))) if status == "done" else None
        where = {"problem": place[0], "method": place[1], "phase": phase, "block": block, "number": number}
        rows.append({"id": len(rows) + 1, **where, "parent": parent, "status": status, "value": value})
        return len(rows)

    for place, size in sizes.items():
        searched: list[int] = []
        for repetition in range(size.repetitions):
            reached = draw(st.sampled_from(looks))
            for block in range(repetition * looks[-1], repetition * looks[-1] + reached):
                searched += [add(place, "explore", block, number) for number in range(size.trials)]
                if not size.trials:
                    add(place, "confirm", block, 0)
        searched += [add(place, "exploit", number // 4, number) for number in range(size.exploit)]
        for parent in draw(st.lists(st.sampled_from(searched), unique=True, max_size=9)) if searched else ():
            if rows[parent - 1]["phase"] == "explore":
                add(place, "confirm", rows[parent - 1]["block"], rows[parent - 1]["number"], parent)
        for parent in draw(st.lists(st.sampled_from(searched), unique=True, max_size=2)) if searched else ():
            for number in range(size.recommend):
                add(place, "recommend", 0, number, parent)
    return sizes, rows


def plain(size: Size, rows: list[dict[str, Any]], problem: str, method: str) -> Progress:
    """What `tally` says, in words of everyday Python."""
    mine = [row for row in rows if (row["problem"], row["method"]) == (problem, method)]
    done = [row for row in mine if row["status"] == "done"]
    unit = "explore" if size.trials else "confirm"
    reached, parents, planned = [], {("confirm", 0)} if not size.trials else set(), 0
    for repetition in range(size.repetitions):
        here = [row for row in mine if row["phase"] == unit and row["block"] // size.looks[-1] == repetition]
        reached.append(len({row["block"] for row in here}))
        if size.trials:
            count = tiny.best(reached[-1], size.trials)
            finished = [row for row in here if row["status"] == "done"]
            best = sorted(finished, key=lambda row: (row["value"], row["id"]))[:count]
            parents |= {("confirm", row["id"]) for row in best}
            planned += count
        else:
            planned += reached[-1]
    searched = [row for row in mine if row["phase"] in ("explore", "exploit")]
    if searched and all(row["status"] == "done" for row in searched):
        winner = min(searched, key=lambda row: (row["value"], row["phase"] != "explore", row["id"]))
        parents.add(("recommend", winner["id"]))
    children = [row for row in done if (row["phase"], row["parent"]) in parents]
    counted = [*(row for row in searched if row["status"] == "done"), *children]
    running = {phase: sum((row["phase"], row["status"]) == (phase, "running") for row in mine) for phase in PHASES}
    by_phase = {"explore": sum(reached) * size.trials, "confirm": planned}
    by_phase |= {"exploit": size.exploit, "recommend": size.recommend}
    return Progress(
        problem,
        method,
        done=len(counted),
        total=sum(by_phase.values()),
        failed=sum(row["status"] == "failed" for row in mine),
        best=min((row["value"] for row in (searched if size.trials else mine) if row["value"]), default=math.inf),
        running={phase: count for phase, count in running.items() if count},
        phases=dict(Counter(row["phase"] for row in counted)),
        planned=by_phase,
        look=1 + size.looks.index(max(reached)),
        looks=len(size.looks),
        blocks=max(reached),
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
def test_progress_is_what_a_plain_count_says(
    database: Engine, given_: tuple[dict[tuple[str, str], Size], list[dict[str, Any]]]
) -> None:
    sizes, rows = given_
    with database.begin() as connection:
        connection.execute(delete(Trial).where(Trial.study_id == 1))
        plain_rows = {"study_id": 1, "seed": 0, "params": {}, "measures": {}, "ledger": {}}
        connection.execute(insert(Trial), [{**row, **plain_rows} for row in rows])
    plans = [Plan(database, 1, "s", size, *place, {}, {}) for place, size in sizes.items()]
    assert tally(plans) == [plain(size, rows, *place) for place, size in sizes.items()]
    assert tally(plans[1:2]) == [plain(sizes[PLACES[1]], rows, *PLACES[1])]  # a part of the study


@pytest.mark.usefixtures("steady")
def test_of_a_further_look_only_what_counts_is_counted(tmp_path: Path) -> None:
    """Confirmations of what is no longer among the best are kept and do not count: what is missing is run."""
    s = tiny.spec(methods=["sgd", "heat"], looks=[2], exploit=0, recommend=1)
    tiny.run(tmp_path, s)
    database = open_database(str(tmp_path / "study.db"))
    with database.begin() as connection:  # settings that were confirmed turn out to be very bad
        connection.execute(update(Trial).where(Trial.phase == "explore").values(value=90.0))
    database.dispose()
    summary = tiny.run(tmp_path, s.model_copy(update={"more_blocks": 2}))
    assert summary.missing == 0 and summary.total == 2 * (8 + tiny.best(4, 2) + 1)
    for method in s.methods:
        mine = [row for row in tiny.rows(tmp_path) if row.method == method]
        best = sorted(
            (row for row in mine if row.phase == "explore"), key=lambda row: (row.value, row.block, row.number)
        )
        confirmed = {row.parent for row in mine if row.phase == "confirm"}
        counting = {row.id for row in best[: tiny.best(4, 2)]}
        assert counting < confirmed or counting == confirmed
        assert {row.parent for row in mine if row.phase == "recommend"} >= {best[0].id}


def test_a_study_without_looks_counts_the_winners_of_its_blocks(database: Engine) -> None:
    """The protocol of databases before looks: one confirmation per block, of its winner."""
    size = Size(0, (3,), trials=2, exploit=0, recommend=0, winners_only=True)
    values = {(0, 0): 0.2, (0, 1): 0.1, (1, 0): 0.3, (1, 1): 0.4, (2, 0): 0.5, (2, 1): 0.6}
    common = {"study_id": 1, "problem": "p", "method": "a", "seed": 0, "params": {}, "status": "done"}
    rows = [
        {"id": n, **common, "phase": "explore", "block": block, "number": number, "parent": 0, "value": value}
        for n, ((block, number), value) in enumerate(values.items(), start=1)
    ]
    rows += [
        {"id": 10 + n, **common, "phase": "confirm", "block": block, "number": 0, "parent": parent, "value": 0.1}
        for n, (block, parent) in enumerate([(0, 2), (0, 1), (1, 3)])
    ]
    with database.begin() as connection:
        connection.execute(delete(Trial).where(Trial.study_id == 1))
        connection.execute(insert(Trial), [{**row, "measures": {}, "ledger": {}} for row in rows])
    (progress,) = tally([Plan(database, 1, "s", size, "p", "a", {}, {})])
    assert (progress.done, progress.total) == (6 + 2, 6 + 3)
    assert progress.phases == {"explore": 6, "confirm": 2}
    old = {"problems": ["p"], "methods": ["a"], "seed": 0, "blocks": 3, "repetitions": 1}
    with database.begin() as connection:
        spec = {**old, "trials": 2, "exploit": 0, "recommend": 0}
        connection.execute(update(Study).where(Study.id == 1).values(spec=spec))
    assert read_progress(database, 1) == [progress]
