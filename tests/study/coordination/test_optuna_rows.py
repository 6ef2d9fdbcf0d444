"""Many trials are added to Optuna in one transaction, with the rows that Optuna itself would write."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import event, select

from relaxbench.study.coordination import optuna_rows
from relaxbench.study.coordination.optuna_rows import add_trials
from tests.postgres import Server

SPACE: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-3, 1.0, log=True),
    "inner_steps": IntDistribution(1, 40),
    "schedule": CategoricalDistribution(("constant", "cosine", True, None)),
}
TABLES = (models.TrialModel, models.TrialValueModel, models.TrialParamModel, models.TrialUserAttributeModel)
Add = Callable[[RDBStorage, optuna.Study, list[FrozenTrial]], None]


def finished(value: float, number: int) -> FrozenTrial:
    schedule = ("constant", "cosine", True, None)[number % 4]
    return create_trial(
        state=TrialState.COMPLETE,
        value=value,
        params={"lr": 0.1 / (1 + number), "inner_steps": 1 + number, "schedule": schedule},
        distributions=SPACE,
        user_attrs={"relaxbench_trial": number, "block": 0, "diverged": math.isinf(value)},
    )


TRIALS = [finished(value, number) for number, value in enumerate([0.5, math.inf, -1e300, 0.0, -math.inf, 3.25])]


def stored(url: str, add: Add) -> list[list[tuple[Any, ...]]]:
    """Every row, without its own id, of two studies to which trials were added in turn."""
    storage = RDBStorage(url)
    studies = [optuna.create_study(storage=storage, study_name=name) for name in "ab"]
    for part in (TRIALS[:2], TRIALS[2:]):
        for study in studies:
            add(storage, study, part)
    with storage.engine.connect() as connection:
        rows = [[tuple(row) for row in connection.execute(select(*list(m.__table__.columns)[1:]))] for m in TABLES]
        ids = set(connection.execute(select(models.TrialModel.trial_id)).scalars())
    storage.engine.dispose()
    assert ids == set(range(1, 13))
    return [sorted(table, key=repr) for table in rows]


def by_optuna(storage: RDBStorage, study: optuna.Study, trials: list[FrozenTrial]) -> None:
    study.add_trials(trials)


def test_the_rows_are_those_that_optuna_writes(tmp_path: Path) -> None:
    rows = stored(f"sqlite:///{tmp_path / 'ours.db'}", add_trials)
    assert rows == stored(f"sqlite:///{tmp_path / 'theirs.db'}", by_optuna)
    assert [len(table) for table in rows] == [12, 12, 36, 36]


def test_optuna_reads_the_trials_back_from_postgresql(server: Server) -> None:
    storage = RDBStorage(server.new_url())
    study = optuna.create_study(storage=storage, study_name="s")
    add_trials(storage, study, TRIALS[:4])
    add_trials(storage, study, TRIALS[4:])
    read = study.trials
    assert [(t.number, t.value, t.params, t.distributions, t.user_attrs) for t in read] == [
        (number, t.value, t.params, t.distributions, t.user_attrs) for number, t in enumerate(TRIALS)
    ]
    assert [t.datetime_start for t in read] == [t.datetime_start for t in TRIALS]
    storage.engine.dispose()


def test_a_chunk_is_one_transaction(tmp_path: Path) -> None:
    storage = RDBStorage(f"sqlite:///{tmp_path / 's.db'}")
    study = optuna.create_study(storage=storage, study_name="s")
    commits: list[object] = []
    event.listen(storage.engine, "commit", commits.append)
    add_trials(storage, study, TRIALS)
    assert len(commits) == 1
    add_trials(storage, study, [])
    assert len(commits) == 1 and len(study.trials) == 6
    storage.engine.dispose()


def test_unknown_tables_are_left_to_optuna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optuna_rows, "KNOWN", -1)
    storage = RDBStorage(f"sqlite:///{tmp_path / 's.db'}")
    study = optuna.create_study(storage=storage, study_name="s")
    added: list[object] = []
    monkeypatch.setattr(study, "add_trials", added.append)
    add_trials(storage, study, TRIALS)
    assert added == [TRIALS]
    storage.engine.dispose()
