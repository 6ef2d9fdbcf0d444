"""Studies with a pruner: exactly the same rows after interruptions, kills and with two workers; what Optuna shows."""

from __future__ import annotations

import math
import shutil
import signal
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from relaxbench.study.coordination.optuna_mirror import ID
from relaxbench.study.definition.spec import StudySpec
from tests.study import tiny
from tests.study.results import DATA, Results

BUDGET, T = 40, 4


def spec(folder: Path, **changes: Any) -> StudySpec:
    file = folder.parent / "mine.py"
    file.write_text(DATA.format(scale=1))
    search = {"pruner": "hyperband", "generation": 2, "spot_checks": 0.5}
    values = {"problems": [str(file)], "trials": T, "exploit": 2, "recommend": 1, "flatness": False, "budget": BUDGET}
    return tiny.spec(**{**values, "search": search, **changes})


def folder(tmp_path: Path, name: str) -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        tiny.set_engine(patch)
        home = folder(tmp_path_factory.mktemp("pruned"), "whole")
        assert tiny.run(home, spec(home), population=8).missing == 0
    return home


@pytest.fixture(scope="module")
def whole(undisturbed: Path) -> Results:
    return tiny.results(undisturbed)


def test_blocks_end_within_their_gradients_and_a_pruned_trial_is_the_beginning_of_its_spot_check(
    undisturbed: Path,
) -> None:
    rows = {row.id: row for row in tiny.rows(undisturbed)}
    bills: dict[tuple[str, int], float] = {}
    for row in rows.values():
        if row.phase == "explore":
            key = (row.method, row.block)
            bills[key] = bills.get(key, 0.0) + row.ledger["gradients"] + row.ledger["jvps"]
    assert len(bills) == 4 and all((T - 1) * BUDGET < spent <= T * BUDGET for spent in bills.values())
    pruned = [row for row in rows.values() if row.status == "pruned"]
    checks = [row for row in rows.values() if row.phase == "spot-check"]
    assert pruned and checks and {row.status for row in checks} == {"done"}
    database = tiny.opened(undisturbed)
    with database.connect() as connection:
        curves = {
            row.trial_id: tiny.curve(row.data)
            for row in connection.exec_driver_sql("select trial_id, data from relaxbench_curves")
        }
    database.dispose()
    for row in checks:
        beginning, run = curves[row.parent], curves[row.id]
        assert beginning.shape[1] < run.shape[1] and np.array_equal(run[:4, : beginning.shape[1]], beginning[:4])
        assert row.ledger["gradients"] > rows[row.parent].ledger["gradients"]
    for row in pruned:
        assert row.value == pytest.approx(curves[row.id][2, -1]) and "test_loss" not in row.measures


@pytest.mark.usefixtures("steady")
def test_an_interrupted_study_continues_to_the_same_bits(tmp_path: Path, whole: Results) -> None:
    home = folder(tmp_path, "parts")
    for size, questions in ((2, 3), (5, 9), (1, 20)):
        assert tiny.run(home, spec(home), tiny.After(questions), population=size).missing > 0
    assert tiny.run(home, spec(home)).missing == 0
    assert tiny.results(home) == whole


@pytest.mark.usefixtures("steady")
def test_a_killed_study_continues_to_the_same_bits(
    tmp_path: Path, whole: Results, processes: ForkServerContext
) -> None:
    home = folder(tmp_path, "killed")
    process = processes.Process(target=tiny.victim, args=(str(home), spec(home), "round", 20))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL and "running" in {row.status for row in tiny.rows(home)}
    tiny.run(home, spec(home))
    assert tiny.results(home) == whole


def test_two_processes_share_a_study(tmp_path: Path, whole: Results, processes: ForkServerContext) -> None:
    home = folder(tmp_path, "shared")
    s = spec(home)
    workers = [processes.Process(target=tiny.victim, args=(str(home), s, "never", 0)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert tiny.results(home) == whole


@pytest.mark.usefixtures("steady")
def test_an_extended_study_keeps_its_rows_and_adds_blocks(tmp_path: Path, whole: Results, undisturbed: Path) -> None:
    home = Path(shutil.copytree(undisturbed, tmp_path / "extended"))
    summary = tiny.run(home, spec(home, more_blocks=1))
    assert summary.missing == 0 and summary.ran > 0
    again = tiny.results(home)
    assert all(again[key] == row for key, row in whole.items() if key[2] != "recommend")
    assert {key[3] for key in again if key[2] == "explore"} == {0, 1, 2}


def test_optuna_shows_pruned_trials_with_their_values_on_the_way(undisturbed: Path) -> None:
    rows = {row.id: row for row in tiny.rows(undisturbed)}
    storage = RDBStorage(f"sqlite:///{undisturbed / 'study.db'}")
    study = optuna.load_study(study_name="tiny/mine/sgd/explore", storage=storage)
    mine = [row for row in rows.values() if (row.method, row.phase) == ("sgd", "explore")]
    assert sorted(trial.user_attrs[ID] for trial in study.trials) == sorted(row.id for row in mine)
    for trial in study.trials:
        row = rows[trial.user_attrs[ID]]
        assert trial.state is (TrialState.PRUNED if row.status == "pruned" else TrialState.COMPLETE)
        assert trial.value == row.value and list(trial.intermediate_values) == [*range(1, trial.last_step + 1)]
        if not row.diverged:
            assert trial.intermediate_values[trial.last_step] == pytest.approx(row.value, rel=1e-6)
    assert {trial.state for trial in study.trials} == {TrialState.PRUNED, TrialState.COMPLETE}
    tuner = {"sampler": "random", "sampler options": {}, "generation": 2, "pruner": "hyperband", "pruner options": {}}
    assert study.user_attrs == tuner
    assert optuna.load_study(study_name="tiny/mine/sgd/exploit", storage=storage).user_attrs == {"sampler": "tpe"}
    assert math.isfinite(study.best_value) and study.best_trial.state is TrialState.COMPLETE
    storage.engine.dispose()
