"""Who works on a study, what has failed, and freeing trials by hand."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import Engine, select, update

from relaxbench.cli.status import status_tables
from relaxbench.errors import UserError
from relaxbench.store.claims import LEASE_SECONDS, Claims, Result, worker_name
from relaxbench.store.database import open_database
from relaxbench.store.freeing import free
from relaxbench.store.schema import Study, Trial, Worker
from relaxbench.store.studies import find_study
from relaxbench.store.workers import arrive
from tests.store.conftest import add_study
from tests.study.coordination.test_manifest import DEAD

FAR = "far.away:12:1000"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    """A study of 12 trials: 8 of sgd, 4 of heat."""
    engine = open_database(str(tmp_path / "study.db"))
    add_study(engine)
    yield engine
    engine.dispose()


def shown(database: Engine, width: int = 80) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, highlight=False)
    for part in status_tables(database, None):
        console.print(part)
    return file.getvalue()


def counts(text: str) -> dict[str, list[int]]:
    """Waiting, running, failed and done by method."""
    found = [line.split() for line in text.splitlines() if line.startswith("digits-mlp") and len(line.split()) == 6]
    return {words[1]: [int(word) for word in words[2:]] for words in found}


def rows(database: Engine) -> list[Any]:
    with database.connect() as connection:
        return list(connection.execute(select(Trial.__table__).order_by(Trial.id)))


# What is shown.


def test_a_study_that_nobody_works_on(database: Engine) -> None:
    text = shown(database)
    assert text.startswith("Study s\nNo worker is running.\n")
    assert counts(text) == {"sgd": [8, 0, 0, 0], "heat": [4, 0, 0, 0]}
    assert "before" not in text and "failed at least once" not in text


def test_workers_are_shown_with_what_they_hold_and_the_dead_as_gone(database: Engine) -> None:
    mine, dead, far = (Claims(database, 1, name) for name in (worker_name(), DEAD, FAR))
    presence = arrive(database, 1, mine.worker, "cuda:0", {})
    presence.doing, presence.finished = "digits-mlp sgd", 2
    presence.seen()
    arrive(database, 1, DEAD, "cpu", {})
    arrive(database, 1, FAR, "cuda:1", {})
    arrive(database, 1, "once:1:1", "cpu", {}).leave()
    for trial in mine.take("digits-mlp", "sgd", 3)[:1]:
        mine.finish([Result(trial.id, trial.token, 0.5, False, {}, {}, b"c")])
    dead.take("digits-mlp", "sgd", 3)
    far.take("digits-mlp", "heat", 1)
    text = shown(database)
    assert counts(text) == {"sgd": [2, 5, 0, 1], "heat": [3, 1, 0, 0]}
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.split()}
    me = mine.worker.rpartition(":")[0]
    assert lines[me][1:6] == ["cuda:0", "digits-mlp", "sgd", "2", "2"] and lines[me][-1] == "ago"
    assert lines["far.away:12"][1:4] == ["cuda:1", "1", "0"] and "gone," not in lines["far.away:12"]
    assert "gone," in lines[DEAD.rpartition(":")[0]]
    assert "3 trials of workers that are gone: any other worker will free them." in text
    assert "1 session before." in text and "No worker" not in text
    with database.begin() as connection:  # and one that has not been heard of for long
        silent = update(Worker).where(Worker.name == FAR).values(seen_at=time.time() - LEASE_SECONDS - 10)
        connection.execute(silent)
    text = shown(database)
    assert text.count("gone,") == 2 and "4 trials of workers that are gone" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_a_dead_worker_that_holds_nothing_is_history(database: Engine) -> None:
    arrive(database, 1, DEAD, "cpu", {})
    text = shown(database)
    assert "No worker is running." in text and "1 session before." in text


def test_failures_are_shown_with_what_was_said(database: Engine) -> None:
    mine = Claims(database, 1, "me", retries=1)
    mine.take("digits-mlp", "heat", 1)
    mine.fail("ValueError: [red]singular[/red]")
    mine.take("digits-mlp", "heat", 1, alone=True)
    mine.fail("ValueError: [red]singular[/red]")
    mine.take("digits-mlp", "sgd", 1)
    mine.fail("its worker died")
    text = shown(database, width=200)
    assert counts(text)["heat"] == [3, 0, 1, 0]
    assert "2 trials failed at least once:" in text
    assert "  digits-mlp heat explore 0.2 (id 3): 2×, given up; ValueError: [red]singular[/red]\n" in text
    assert "  digits-mlp sgd confirm 0.1 (id 2): 1×, waiting again; its worker died\n" in text


def test_of_many_failures_some_are_listed_and_the_rest_is_counted(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(update(Trial).values(failures=1, status="failed", error="no"))
    engine = open_database(str(database.url.database))
    text = shown(engine)
    engine.dispose()
    assert text.count("given up; no") == 12 and "more" not in text
    from relaxbench.cli import status

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(status, "SHOWN", 5)
        text = shown(database)
    assert text.count("given up; no") == 5 and "and 7 more" in text


def test_which_study(database: Engine) -> None:
    assert find_study(database, None) == find_study(database, "s") == (1, "s")
    with pytest.raises(UserError, match="unknown study 'x'"):
        find_study(database, "x")
    with database.begin() as connection:
        row = connection.execute(select(Study.__table__)).one()._asdict()
        connection.execute(Study.__table__.insert().values(**{**row, "id": 2, "name": "t"}))  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"which study\? there are 2: s, t \(name one of them in the command\)"):
        find_study(database, None)
    with database.begin() as connection:
        connection.execute(Trial.__table__.delete())  # type: ignore[attr-defined]
        connection.execute(Study.__table__.delete())  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="there is no study in this database"):
        find_study(database, None)
    with pytest.raises(UserError, match="unknown study 's': there is none yet"):
        find_study(database, "s")


# Freeing.


@pytest.fixture
def held(database: Engine) -> dict[str, list[Trial]]:
    """Trials in the hands of this process, a dead one and one of another machine."""
    return {name: Claims(database, 1, name).take("digits-mlp", "sgd", 2) for name in (worker_name(), DEAD, FAR)}


def ids(trials: list[Trial]) -> set[int]:
    return {trial.id for trial in trials}


def test_what_the_dead_hold_is_freed_without_a_failure(database: Engine, held: dict[str, list[Trial]]) -> None:
    assert free(database, "s", None, False, False) == (2, 0)
    freed = [row for row in rows(database) if row.id in ids(held[DEAD])]
    assert {(r.status, r.failures, r.token, r.lease_until) for r in freed} == {("waiting", 0, 2, None)}
    assert sum(row.status == "running" for row in rows(database)) == 4
    with database.begin() as connection:
        connection.execute(update(Trial).where(Trial.worker == FAR).values(lease_until=1.0))
    assert free(database, None, None, False, False) == (2, 0)  # its leases have run out


@pytest.mark.parametrize("name", [FAR, "far.away:12", "far.away"])
def test_what_one_worker_holds_is_freed_and_its_results_are_refused(
    name: str, database: Engine, held: dict[str, list[Trial]]
) -> None:
    """Dead or not: from here on it is fenced off, and notices."""
    assert free(database, "s", name, False, False) == (2, 0)
    late = Claims(database, 1, FAR)
    late.tokens = {trial.id: trial.token for trial in held[FAR]}
    first, second = held[FAR]
    assert late.finish([Result(first.id, first.token, 0.5, False, {}, {}, b"c")]) == 0
    late.renew()
    assert late.lost == {second.id}
    assert {row.status for row in rows(database) if row.id in ids(held[FAR])} == {"waiting"}
    assert sum(row.status == "running" for row in rows(database)) == 4


def test_everything_can_be_freed(database: Engine, held: dict[str, list[Trial]]) -> None:
    assert free(database, "s", None, True, False) == (6, 0)
    assert {row.status for row in rows(database)} == {"waiting"}
    assert free(database, "s", None, True, True) == (0, 0)


def test_what_was_given_up_gets_another_chance(database: Engine) -> None:
    mine = Claims(database, 1, "me", retries=0)
    trials = mine.take("digits-mlp", "sgd", 2)
    mine.fail("no")
    assert free(database, "s", None, False, False) == (0, 0)
    assert free(database, "s", None, False, True) == (0, 2)
    assert {(r.status, r.failures) for r in rows(database)} == {("waiting", 0)}
    assert ids(mine.take("digits-mlp", "sgd", 2)) == ids(trials)


def test_a_worker_that_holds_nothing_is_refused_with_those_that_do(
    database: Engine, held: dict[str, list[Trial]]
) -> None:
    with pytest.raises(
        UserError, match=r"unknown worker with running trials 'far.awya:12:1000': did you mean 'far.away"
    ):
        free(database, "s", "far.awya:12:1000", False, False)
    assert free(database, "s", None, True, False)[0] == 6
    with pytest.raises(UserError, match=r"no worker holds trials of this study: 'far.away' has none"):
        free(database, "s", "far.away", False, False)
