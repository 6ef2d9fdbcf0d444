"""The status command: workers of a study, the trials they hold, and failures."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import Engine, update

from relaxbench.cli.status import status_tables
from relaxbench.store.claims import LEASE_SECONDS, Claims, Result, worker_name
from relaxbench.store.database import open_database
from relaxbench.store.schema import Trial, Worker
from relaxbench.store.workers import arrive
from relaxbench.stress.simulated import Load, make
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
    head, *lines = text[text.index("method ") :].splitlines()
    assert head.split() == ["method", "waiting", "running", "failed", "done"] and lines[0].split() == ["digits-mlp"]
    found = [line.split() for line in lines[1:] if line.startswith("  ") and len(line.split()) == 5]
    return {name: [int(word) for word in numbers] for name, *numbers in found}


def test_a_study_that_nobody_works_on(database: Engine) -> None:
    text = shown(database)
    assert text.startswith("Study s\nNo worker is running.\n")
    assert counts(text) == {"sgd": [8, 0, 0, 0], "heat": [4, 0, 0, 0]}
    assert "before" not in text and "failed at least once" not in text


def test_a_study_with_looks_names_the_one_that_it_is_at(tmp_path: Path) -> None:
    engine = open_database(str(tmp_path / "simulated.db"))
    make(engine, "s", Load(looks=(6, 9), trials=1, exploit=0, recommend=0))
    text = shown(engine)
    engine.dispose()
    assert text.startswith("Study s\nLook 1 of 2: 6 blocks; nothing is decided before it is complete.\n")


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
