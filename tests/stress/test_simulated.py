"""Simulated studies: no torch, results that follow from seeds and settings, loads of the requested size."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from relaxbench.analysis.frames import load_study
from relaxbench.analysis.verdicts import verdicts
from relaxbench.store.claims import Claims
from relaxbench.store.database import open_database
from relaxbench.store.schema import Trial
from relaxbench.store.workers import arrive
from relaxbench.stress.load import LoadFigures, sized
from relaxbench.stress.run import LOADS, Figures
from relaxbench.stress.simulated import METHODS, WORST, Load, Simulation, make, outcome
from relaxbench.study.coordination.checkpoints import Checkpoints
from relaxbench.study.coordination.plan import plans
from relaxbench.study.coordination.session import Session

QUICK = Load(seconds=0.0, rounds=3, looks=(6,), trials=2, exploit=5, recommend=2)


def worked(folder: Path, load: Load) -> str:
    """The storage of a simulated study that one worker has finished."""
    storage = f"sqlite:///{folder / 'study.db'}"
    database = open_database(storage)
    study = make(database, "simulated", load)
    claims, checkpoints = Claims(database, study), Checkpoints(folder, "key")
    presence = arrive(database, study, claims.worker, "cpu", {})
    Session(claims, plans(database, study), presence, Simulation(load, checkpoints).train).work()
    database.dispose()
    return storage


def test_a_simulated_study_is_read_and_judged_like_any_other(tmp_path: Path) -> None:
    frames = load_study(worked(tmp_path, QUICK), "simulated")
    assert len(frames.trials) == len(METHODS) * (6 * 2 + 11 + 5 + 2) and set(frames.trials["status"]) == {"done"}
    assert len(frames.curves) == 3 * len(frames.trials) and len(frames.blocks) == 12
    means = {result.method: result.mean for result in verdicts(frames)}
    assert list(means) == list(METHODS) and np.isfinite(list(means.values())).all()
    errors = frames.blocks.groupby("method")["test_metric"].mean()
    assert means == pytest.approx(errors.to_dict())


def test_two_studies_of_one_seed_have_the_same_outcomes(tmp_path: Path) -> None:
    """Each study runs in its own database."""
    place = ["method", "phase", "block", "number"]
    values = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        trials = load_study(worked(tmp_path / name, QUICK), "simulated").trials
        values.append(trials.set_index(place)["value"].sort_index())
    assert values[0].equals(values[1]) and values[0].nunique() == len(values[0])


def test_an_outcome_depends_on_seed_and_settings() -> None:
    def value(seed: int, x: float) -> float:
        trial = Trial(id=1, token=1, seed=seed, phase="explore", params={"x0": x, "x1": 0.5})
        return outcome(trial, rounds=3).value

    assert value(1, 0.1) == value(1, 0.1)
    assert len({value(1, 0.1), value(2, 0.1), value(1, 0.2)}) == 3


def test_a_better_setting_is_better(tmp_path: Path) -> None:
    trials = load_study(worked(tmp_path, QUICK), "simulated").trials
    distance = [sum((np.log(value) + 1) ** 2 for value in params.values()) for params in trials["params"]]
    assert np.corrcoef(distance, trials["value"])[0, 1] > 0.99
    assert trials["value"].max() < WORST


@pytest.mark.parametrize("kind", LOADS)
@pytest.mark.parametrize("workers", [1, 4, 64])
def test_a_load_has_the_requested_size_and_ends(kind: str, workers: int) -> None:
    load = sized(LOADS[kind], workers, 6.0, 2000)
    (blocks,) = load.looks
    count = len(METHODS) * (blocks * load.trials + math.ceil(blocks * load.trials / 3))
    assert 6 <= count <= 2010
    if load.seconds:
        assert count * load.seconds / workers <= 6.0 + 2 * len(METHODS) * load.seconds
    assert (load.hyperparameters, load.rounds) == (LOADS[kind].hyperparameters, LOADS[kind].rounds)


def test_missed_targets_are_listed() -> None:
    good = LoadFigures(workers=16, trials=100, rate=200.0, overhead=0.01, locked=0, stopped=0)
    figures = Figures({("SQLite", "bare"): [good], ("PostgreSQL", "1 s"): [good]})
    assert figures.missed() == []
    figures.load["SQLite", "bare"] = [replace(good, rate=99.0), replace(good, workers=4, locked=1)]
    figures.load["PostgreSQL", "1 s"] = [replace(good, overhead=0.031, stopped=2)]
    assert figures.missed() == [
        "bare trials on SQLite, 16 workers: 99 per second, target 100",
        "bare trials on SQLite, 4 workers: the database was locked 1 time",
        "1 s trials on PostgreSQL, 16 workers: 2 workers crashed",
        "1 s trials on PostgreSQL, 16 workers: 3.1 % overhead, target 3 %",
    ]


def test_a_stress_worker_imports_no_torch() -> None:
    code = "import sys, relaxbench.stress.worker; print([m for m in ('torch', 'pandas', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
