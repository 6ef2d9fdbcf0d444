"""A study copied into another database is the same study, row by row and bit by bit; or nothing was copied."""

from __future__ import annotations

import itertools
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func, insert, select, text, update

from relaxbench.errors import UserError
from relaxbench.store import transfer
from relaxbench.store.database import open_database
from relaxbench.store.schema import Curve, Study, Trial, Weights
from relaxbench.store.transfer import Copied, copy_study, study_to_copy
from tests.postgres import Server
from tests.store import studies

Open = Callable[[str], Engine]


@pytest.fixture
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens a new database of a kind, and closes it in the end."""
    engines: list[Engine] = []

    def open_new(kind: str) -> Engine:
        new_file = tmp_path / f"{len(engines)}.db"
        url = str(new_file) if kind == "sqlite" else request.getfixturevalue("server").new_url()
        engines.append(open_database(url))
        return engines[-1]

    yield open_new
    for engine in engines:
        engine.dispose()


def counts(engine: Engine) -> dict[str, int]:
    """Rows of all our tables, counted in SQL."""
    tables = ("studies", "trials", "curves", "weights", "workers")
    with engine.connect() as connection:
        return {t: connection.execute(text(f"SELECT count(*) FROM relaxbench_{t}")).scalar_one() for t in tables}


def expected(rows: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """What a copy must be, worked out from the original's rows: `new` has the manifest that cannot be known."""
    trials = []
    for row in rows["trials"]:
        if row["status"] == "running":
            row = {**row, "status": "waiting", "worker": None, "lease_until": None}
        trials.append({**row, "mirrored": False})
    workers = [{**w, "ended_at": w["seen_at"] if w["ended_at"] is None else w["ended_at"]} for w in rows["workers"]]
    study = {**rows["study"], "manifest": new["study"]["manifest"]}
    return {"study": study, "trials": trials, "workers": workers}


KINDS = list(itertools.product(("sqlite", "postgresql"), repeat=2))


@pytest.mark.parametrize(("here", "there"), KINDS)
def test_a_copy_equals_its_origin_without_its_claims(opened: Open, here: str, there: str) -> None:
    source, target = opened(here), opened(there)
    studies.add(source, "neighbour", 3, seed=1)
    studies.add(source, "s")
    studies.add(target, "other", 7, seed=2)
    original, neighbour, before = studies.told(source, "s"), studies.told(target, "other"), counts(target)
    assert {row["status"] for row in original["trials"]} == {"done", "running", "waiting", "failed"}
    assert any(row["parent"] for row in original["trials"])

    copied = copy_study(source, target, "s")
    assert copied == Copied("s", trials=12, done=3, curves=3, weights=2, workers=2)
    assert counts(target) == {
        "studies": before["studies"] + 1,
        "trials": before["trials"] + 12,
        "curves": before["curves"] + 3,
        "weights": before["weights"] + 2,
        "workers": before["workers"] + 2,
    }
    new = studies.told(target, "s")
    assert new == expected(original, new)
    assert studies.told(source, "s") == original and studies.told(target, "other") == neighbour


def test_a_copy_has_a_key_of_its_own_and_knows_where_it_came_from(opened: Open) -> None:
    source, target = opened("sqlite"), opened("sqlite")
    studies.add(source, "s")
    copy_study(source, target, "s")
    copy_study(source, target, "s", "t")
    first, second = (studies.told(target, name)["study"]["manifest"] for name in ("s", "t"))
    keys = [manifest["key"] for manifest in (first, second)]
    assert len(set(keys)) == 2 and all(len(key) == 12 and int(key, 16) >= 0 for key in keys)
    assert set(first) == {"key", "device", "copied_from"}  # no turns: nobody works on it
    assert first["device"] == "cpu"
    assert first["copied_from"].keys() == {"name", "key", "at"}
    assert (first["copied_from"]["name"], first["copied_from"]["key"]) == ("s", "key of s")
    assert str(source.url.database) not in str(first)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_study_is_copied_within_its_database_under_another_name(opened: Open, kind: str) -> None:
    source = opened(kind)
    studies.add(source, "s")
    original = studies.told(source, "s")
    copy_study(source, source, "s", "t")
    new = studies.told(source, "t")
    original["study"] |= {"name": "t", "spec": {**original["study"]["spec"], "name": "t"}}
    assert new == expected(original, new)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_new_trials_find_ids_after_a_copy(opened: Open, kind: str) -> None:
    source, target = opened("sqlite"), opened(kind)
    studies.add(source, "s", 30)
    copy_study(source, target, "s")
    studies.add(target, "later", 5)
    assert counts(target)["trials"] == 35


FINITE = st.floats(allow_nan=False, allow_infinity=False)
PARAM = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text() | FINITE
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
VALUES = st.fixed_dictionaries(
    {
        "params": st.dictionaries(st.text(), PARAM, max_size=3),
        "value": st.none() | FINITE,
        "error": st.none() | TEXT,
        "correct": st.none() | st.binary(max_size=9),
        "seed": st.integers(0, 2**63 - 1),
    }
)
NAMES = itertools.count()


@settings(max_examples=25)
@given(rows=st.lists(VALUES, max_size=6), source_text=TEXT)
def test_a_study_copied_to_postgresql_and_back_has_the_same_rows(
    server: Server, tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], source_text: str
) -> None:
    """SQLite → PostgreSQL → SQLite, for all values that the columns can hold."""
    name, folder = f"s{next(NAMES)}", tmp_path_factory.mktemp("there")
    engines = [open_database(at) for at in (str(folder / "a.db"), server.url, str(folder / "b.db"))]
    try:
        first, middle, last = engines
        studies.add(first, name, len(rows))
        with first.begin() as connection:
            connection.execute(update(Study).values(source=source_text))
            for trial, values in zip(connection.scalars(select(Trial.id)).all(), rows, strict=True):
                connection.execute(update(Trial).where(Trial.id == trial).values(**values))
        copy_study(first, middle, name)
        copy_study(middle, last, name)
        original, new = studies.told(first, name), studies.told(last, name)
        assert new == expected(original, new)
        with last.connect() as connection:  # -0.0 == 0.0, and 1 == True
            assert repr([row["params"] for row in new["trials"]]) == repr([row["params"] for row in original["trials"]])
    finally:
        for engine in engines:
            engine.dispose()


# What is refused.


def test_unknown_used_and_invalid_names_are_refused(opened: Open) -> None:
    source, target = opened("sqlite"), opened("sqlite")
    studies.add(source, "digits")
    studies.add(target, "mine")
    before = counts(target)
    with pytest.raises(UserError, match="unknown study 'digit': did you mean 'digits'"):
        copy_study(source, target, "digit")
    with pytest.raises(UserError, match=r"study 'mine' is already in storage .*: give the copy another name"):
        copy_study(source, target, "digits", "mine")
    with pytest.raises(UserError, match="study 'digits' is already in storage"):
        copy_study(source, source, "digits")
    for bad in ("", "x" * 201):
        with pytest.raises(UserError, match="expected 1 to 200"):
            copy_study(source, target, "digits", bad)
    assert counts(target) == before


def test_the_only_study_need_not_be_named(opened: Open) -> None:
    source = opened("sqlite")
    with pytest.raises(UserError, match="there is no study in this database"):
        study_to_copy(source)
    studies.add(source, "a", 1)
    assert study_to_copy(source) == study_to_copy(source, "a") == "a"
    studies.add(source, "b", 1)
    with pytest.raises(UserError, match=r"which study\? there are 2: a, b"):
        study_to_copy(source)


def test_a_copy_that_fails_is_not_there_at_all(opened: Open) -> None:
    source, target = opened("sqlite"), opened("sqlite")
    studies.add(source, "s")
    with target.begin() as connection:  # at the last but one table
        connection.execute(
            text("CREATE TRIGGER t BEFORE INSERT ON relaxbench_weights BEGIN SELECT RAISE(ABORT, 'out of room'); END")
        )
    with pytest.raises(UserError) as error:
        copy_study(source, target, "s")
    assert str(error.value).startswith("study 's' could not be copied, and nothing was written (out of room): ")
    assert set(counts(target).values()) == {0}


def test_what_the_other_database_cannot_hold_is_said_in_one_line(opened: Open) -> None:
    source, target = opened("sqlite"), opened("postgresql")
    studies.add(source, "s")
    with source.begin() as connection:
        connection.execute(update(Trial).where(Trial.status == "failed").values(error="a\0b"))
    with pytest.raises(UserError, match="could not be copied, and nothing was written") as error:
        copy_study(source, target, "s")
    assert "\n" not in str(error.value) and set(counts(target).values()) == {0}


def test_a_parent_that_is_not_there_is_told(opened: Open) -> None:
    source, target = opened("sqlite"), opened("sqlite")
    studies.add(source, "s")
    with source.begin() as connection:
        connection.execute(update(Trial).where(Trial.parent != 0).values(parent=999))
    with pytest.raises(UserError, match="names a parent 999 that does not exist"):
        copy_study(source, target, "s")
    assert set(counts(target).values()) == {0}


def test_of_two_copies_at_once_one_gets_the_name(opened: Open, server: Server) -> None:
    source, target = opened("sqlite"), opened("postgresql")
    studies.add(source, "s", 200)
    outcomes: list[object] = []

    def attempt() -> None:
        try:
            outcomes.append(copy_study(source, target, "s"))
        except BaseException as error:
            outcomes.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Copied", "UserError"]
    assert (counts(target)["studies"], counts(target)["trials"]) == (1, 200)


# While others work; and large ones.


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_copy_is_of_one_moment_and_holds_up_nobody(opened: Open, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = opened(kind), opened("sqlite")
    study = studies.add(source, "s", 40)
    original = studies.told(source, "s")
    reserve, waited = transfer._reserve, list[float]()

    def meanwhile(connection: Any, count: int) -> Any:
        """Between the reading of ids and of rows: a trial is finished, and one is added."""
        began = time.monotonic()
        with source.begin() as other:
            ready = other.scalars(select(Trial.id).where(Trial.status == "waiting")).first()
            other.execute(update(Trial).where(Trial.id == ready).values(status="done", value=1.0))
            other.execute(insert(Curve).values(trial_id=ready, data=b"late"))
            row = {"study_id": study, "problem": "p", "method": "late", "phase": "explore", "block": 0, "number": 0}
            other.execute(insert(Trial).values(**row, parent=0, seed=1, params={}))
        waited.append(time.monotonic() - began)
        return reserve(connection, count)

    monkeypatch.setattr(transfer, "_reserve", meanwhile)
    copied = copy_study(source, target, "s")
    new = studies.told(target, "s")
    assert new == expected(original, new) and (copied.trials, copied.done) == (40, 10)
    assert waited[0] < 5
    assert counts(source)["trials"] == 41  # and the other's work is kept


@pytest.mark.parametrize(("here", "there"), [("sqlite", "sqlite"), ("sqlite", "postgresql"), ("postgresql", "sqlite")])
def test_a_large_study_takes_little_memory(opened: Open, here: str, there: str) -> None:
    """120 MB of arrays pass through a few of them at a time."""
    source, target = opened(here), opened(there)
    studies.add(source, "s", 4)
    wide, small, rows = bytes(2_000_000), bytes(20_000), []
    plain = {"study_id": 1, "problem": "p", "method": "many", "phase": "explore", "block": 0, "parent": 0, "seed": 1}
    for number in range(2000):
        rows.append({**plain, "number": number, "params": {}, "status": "done", "correct": small})
    with source.begin() as connection:
        for start in range(0, len(rows), 100):
            connection.execute(insert(Trial), rows[start : start + 100])
        ids = connection.scalars(select(Trial.id).where(Trial.method == "many")).all()
        for number in ids:
            connection.execute(insert(Curve).values(trial_id=number, data=small))
        for number in ids[:20]:
            connection.execute(insert(Weights).values(trial_id=number, data=wide))
    tracemalloc.start()
    try:
        copied = copy_study(source, target, "s")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (copied.trials, copied.curves, copied.weights) == (2004, 2001, 21)
    assert peak < 40e6
    with target.connect() as connection:
        for table, size in ((Curve, 2000 * 20_000), (Weights, 20 * 2_000_000)):
            assert connection.scalar(select(func.sum(func.length(table.data)))) >= size
