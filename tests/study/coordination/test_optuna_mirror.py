"""Optuna gets finished trials, each once, in pieces: whatever is cut off between its transactions and ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, select, text, update

from relaxbench.store.database import open_database
from relaxbench.store.schema import Trial
from relaxbench.stress.simulated import METHODS, Load, make
from relaxbench.study.coordination import optuna_mirror as module
from relaxbench.study.coordination.optuna_mirror import ID, behind, mirror
from relaxbench.study.coordination.plan import Plan, plans
from tests.postgres import Server


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Plan]]:
    """The plans of a study of two methods with 14 finished trials each, mirrored in chunks of 5."""
    monkeypatch.setattr(module, "CHUNK", 5)
    database = open_database(str(tmp_path / "study.db"))
    load = Load(hyperparameters=2, looks=(2,), trials=7, exploit=0, recommend=0)
    planned = plans(database, make(database, "s", load))
    with database.begin() as connection:
        connection.execute(update(Trial).values(status="done", value=Trial.id / 10.0))
    yield planned
    database.dispose()


def mirrored(folder: Path, database: Engine) -> dict[str, list[int]]:
    """Our ids of the trials that Optuna has, by method, in its order; each has its value and settings."""
    with database.connect() as connection:
        rows = {row.id: row for row in connection.execute(select(Trial.__table__))}
    found = {}
    for method in METHODS:
        name = f"s/simulated/{method}/explore"
        loaded = optuna.load_study(study_name=name, storage=f"sqlite:///{folder / 'study.db'}")
        for trial in loaded.trials:
            row = rows[trial.user_attrs[ID]]
            assert (trial.value, trial.params, row.method) == (row.value, row.params, method)
        found[method] = [trial.user_attrs[ID] for trial in loaded.trials]
        loaded._storage._backend.engine.dispose()  # type: ignore[attr-defined]
    return found


def test_commits_do_not_wait_for_the_disk_as_on_our_own_connections(study: list[Plan]) -> None:
    with module.open_optuna(study[0].database) as storage, storage.engine.connect() as connection:
        theirs = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "journal_mode")]
    with study[0].database.connect() as connection:
        ours = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "journal_mode")]
    assert theirs == ours == [1, "wal"]


def test_whether_the_tables_fit_is_asked_once_per_process(study: list[Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    monkeypatch.setattr(ScriptDirectory, "get_current_head", _counted(ScriptDirectory.get_current_head, loaded))
    mirror(study)
    asked = len(loaded)
    assert asked >= 1
    with module.open_optuna(study[0].database) as storage:
        assert len(storage.get_all_studies()) == 2
    assert len(loaded) == asked


def _counted(function: Callable[..., Any], calls: list[int]) -> Callable[..., Any]:
    return lambda *given: calls.append(1) or function(*given)  # type: ignore[func-returns-value]


def test_all_finished_trials_are_added_in_order(study: list[Plan], tmp_path: Path) -> None:
    assert behind(study) == 28
    mirror(study)
    assert behind(study) == 0
    found = mirrored(tmp_path, study[0].database)
    assert [len(ids) for ids in found.values()] == [14, 14] and all(ids == sorted(ids) for ids in found.values())
    mirror(study)
    assert mirrored(tmp_path, study[0].database) == found


def test_trials_that_do_not_fit_into_the_time_are_added_later(
    study: list[Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror(study, until=time.monotonic())
    assert behind(study) == 28
    left = []
    while behind(study):
        ticks = iter([0.0] * 4)  # time enough for a few looks
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda ticks=ticks: next(ticks, 2.0)))
        mirror(study, until=1.0)
        left.append(behind(study))
        assert len(left) <= 3
    assert left == [14, 4, 0]
    assert [len(set(ids)) for ids in mirrored(tmp_path, study[0].database).values()] == [14, 14]


@pytest.mark.parametrize("lost", [1, 5])
def test_trials_whose_marks_were_lost_are_not_added_twice(lost: int, study: list[Plan], tmp_path: Path) -> None:
    """A kill after some of a chunk's trials were added, before they were marked."""
    mirror(study)
    before = mirrored(tmp_path, study[0].database)
    with study[0].database.begin() as connection:
        last = [trial for ids in before.values() for trial in ids[-lost:]]
        connection.execute(update(Trial).where(Trial.id.in_(last)).values(mirrored=False))
    assert behind(study) == 2 * lost
    mirror(study)
    assert behind(study) == 0 and mirrored(tmp_path, study[0].database) == before


def test_a_connection_that_is_lost_at_any_statement_is_made_anew(server: Server) -> None:
    """Optuna's errors hide the database's, some behind one of SQLAlchemy's."""
    url = make_url(server.new_url())
    database, others = open_database(str(url)), create_engine(server.new_url())
    (plan, *_) = plans(database, make(database, "s", Load(looks=(2,), trials=1, exploit=0, recommend=0)))
    executed, fatal, last, reached = 0, 0, 0, True

    def lose(connection: Connection, *_: object) -> None:
        nonlocal executed
        if connection.engine.url.database == url.database:
            executed += 1
            if executed == fatal:
                with others.begin() as other:
                    backends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
                    other.execute(text(backends), {"name": url.database})

    event.listen(Engine, "before_cursor_execute", lose)
    try:
        while reached:
            last += 2
            plan = replace(plan, name=f"lost at {last}")  # another study of Optuna's
            with database.begin() as connection:
                connection.execute(update(Trial).values(status="done", value=1.0, mirrored=False))
            executed, fatal = 0, last
            mirror([plan])
            reached, fatal = executed >= last, 0
            assert behind([plan]) == 0
            name = f"{plan.name}/{plan.problem}/{plan.method}/explore"
            with module.open_optuna(database) as opened:
                assert opened.get_n_trials(opened.get_study_id_from_name(name)) == 2
    finally:
        event.remove(Engine, "before_cursor_execute", lose)
        database.dispose()
        others.dispose()
    assert last > 20
