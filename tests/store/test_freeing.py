"""Freeing trials by hand: those of dead workers, of one worker, or all."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, select, update

from relaxbench.errors import UserError
from relaxbench.store.claims import Claims, Result, worker_name
from relaxbench.store.freeing import free
from relaxbench.store.schema import Trial
from tests.study.coordination.test_manifest import DEAD

FAR = "far.away:12:1000"


def rows(database: Engine) -> list[Any]:
    with database.connect() as connection:
        return list(connection.execute(select(Trial.__table__).order_by(Trial.id)))


@pytest.fixture
def held(database: Engine) -> dict[str, list[Trial]]:
    """Trials in the hands of this process, a dead one and one of another machine."""
    return {name: Claims(database, 1, name).take("digits-mlp", "sgd", 2) for name in (worker_name(), DEAD, FAR)}


def ids(trials: list[Trial]) -> set[int]:
    return {trial.id for trial in trials}


def test_trials_of_dead_workers_are_freed_without_a_failure(database: Engine, held: dict[str, list[Trial]]) -> None:
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


def test_all_running_trials_can_be_freed(database: Engine, held: dict[str, list[Trial]]) -> None:
    assert free(database, "s", None, True, False) == (6, 0)
    assert {row.status for row in rows(database)} == {"waiting"}
    assert free(database, "s", None, True, True) == (0, 0)


def test_failed_trials_can_be_set_to_waiting_again(database: Engine) -> None:
    mine = Claims(database, 1, "me", retries=0)
    trials = mine.take("digits-mlp", "sgd", 2)
    mine.fail("no")
    assert free(database, "s", None, False, False) == (0, 0)
    assert free(database, "s", None, False, True) == (0, 2)
    assert {(r.status, r.failures) for r in rows(database)} == {("waiting", 0)}
    assert ids(mine.take("digits-mlp", "sgd", 2)) == ids(trials)


def test_an_unknown_worker_is_refused_and_those_with_trials_are_named(
    database: Engine, held: dict[str, list[Trial]]
) -> None:
    with pytest.raises(
        UserError, match=r"unknown worker with running trials 'far.awya:12:1000': did you mean 'far.away"
    ):
        free(database, "s", "far.awya:12:1000", False, False)
    assert free(database, "s", None, True, False)[0] == 6
    with pytest.raises(UserError, match=r"no worker holds trials of this study: 'far.away' has none"):
        free(database, "s", "far.away", False, False)
