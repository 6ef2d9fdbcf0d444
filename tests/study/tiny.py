"""Studies small enough for tests, and everything that one leaves in its database."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine as Database
from sqlalchemy import select

from relaxbench.store.database import open_database
from relaxbench.store.schema import Curve, Trial, Weights
from relaxbench.study.definition.opening import open_study
from relaxbench.study.definition.prepare import prepare
from relaxbench.study.definition.spec import StudySpec
from relaxbench.study.definition.validation import restore
from relaxbench.study.execution.options import RunOptions, parse_device
from relaxbench.study.execution.run import StudyRun, Summary

KEYS = ("problem", "method", "phase", "block", "number")
"""With the settings of the parent, what a trial is, whatever its id."""


def spec(**changes: Any) -> StudySpec:
    """Two methods on Rosenbrock's function, all phases: 2 × (4 + 3 + 6 + 2) = 30 trials."""
    values: dict[str, Any] = {
        "name": "tiny",
        "problems": ["rosenbrock"],
        "methods": ["sgd", "heat"],
        "looks": [2],
        "trials": 2,
        "exploit": 6,
        "recommend": 2,
        "budget": 40,
    }
    return restore({**values, **changes}, "tiny.toml")


def expected(s: StudySpec, problems: int | None = None) -> int:
    """How many trials count in a finished study, counted by hand: few blocks decide nothing, so all looks are taken."""
    blocks = s.looks[-1] + s.more_blocks
    per_method = s.repetitions * (blocks * s.trials + best(blocks, s.trials)) + s.exploit + s.recommend
    return per_method * len(s.methods) * (problems or len(s.problems))


def best(blocks: int, trials: int) -> int:
    """How many of a look's random trials are confirmed: a third, and more where the best of T is often elsewhere."""
    total, left_out, count = blocks * trials, 1.0, 0
    while 3 * count < total or left_out > 0.01 + 1e-9:
        left_out -= math.comb(total - count - 1, trials - 1) / math.comb(total, trials)
        count += 1
    return count


def never() -> bool:
    """A `stopping` for a session that ends by itself."""
    return False


def run(
    folder: Path,
    s: StudySpec,
    stopping: Callable[[], bool] = never,
    population: int | None = 0,
    **arguments: Any,
) -> Summary:
    """One session on the study in a folder.

    Args:
        folder: of its files.
        s: the study.
        stopping: see `RunOptions`.
        population: slots; 0 for few ones where the session may be stopped among its trials, and else more, which
            train sooner. None for the number that is measured.
        arguments: further options.
    """
    if population == 0:
        population = 8 if stopping is never else 3
    database = open_database(str(folder / "study.db"))
    try:
        given = {"checkpoints": folder / "checkpoints", **arguments}
        options = RunOptions(device=parse_device("cpu"), population=population, stopping=stopping, **given)
        return run_in(database, s, options)
    finally:
        database.dispose()


def run_in(database: Database, s: StudySpec, options: RunOptions, source: str = "source") -> Summary:
    """One session on a study in any database."""
    opened = open_study(database, s, source, prepare(s), options.device)
    return StudyRun(database, options).work(opened)


def opened(folder: Path) -> Database:
    return open_database(str(folder / "study.db"), create=False, read_only=True)


def rows(folder: Path) -> list[Any]:
    database = opened(folder)
    with database.connect() as connection:
        found = connection.execute(select(Trial.__table__).order_by(Trial.id)).all()
    database.dispose()
    return list(found)


def results(folder: Path) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Everything that a study's trials gave, bit by bit, by what they are (never by id or time)."""
    database = opened(folder)
    try:
        return results_in(database)
    finally:
        database.dispose()


def results_in(database: Database) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """The same from any database."""
    with database.connect() as connection:
        trials = connection.execute(select(Trial.__table__)).all()
        curves = {row[0]: bits(row[1]) for row in connection.execute(select(Curve.trial_id, Curve.data))}
        weights = {row[0]: bits(row[1]) for row in connection.execute(select(Weights.trial_id, Weights.data))}
    of = {row.id: tuple(getattr(row, key) for key in KEYS) for row in trials}
    table = {}
    for row in trials:
        given = (row.seed, tuple(sorted(row.params.items())), row.status)
        got = (row.value, row.diverged, tuple(sorted(row.measures.items())), tuple(sorted(row.ledger.items())))
        table[(*of[row.id], of.get(row.parent))] = (*given, *got, row.correct, curves.get(row.id), weights.get(row.id))
    return table


def bits(data: bytes) -> bytes:
    """Float32 numbers as they are stored, with one NaN for all: its sign says only which instruction came first."""
    numbers = np.frombuffer(data, dtype=np.float32)
    return np.where(np.isnan(numbers), np.float32("nan"), numbers).tobytes()


def settle(database: Database, s: StudySpec, population: int = 6) -> None:
    """A study that has begun, with all that a clock decides: for other processes, whose clocks cannot be turned."""
    from relaxbench.study.coordination.manifest import edit_manifest

    study = open_study(database, s, "source", prepare(s), parse_device("cpu")).id

    def decide(manifest: dict[str, Any]) -> None:
        manifest["device"] = "cpu"
        manifest["engines"] = {name: engine(population).as_dict() for name in manifest["problems"]}
        for method in manifest["methods"].values():
            method["calibration"] = {name: dict(COST) for name in manifest["problems"]}

    edit_manifest(database, study, decide)


def file(s: StudySpec) -> str:
    """A study file with a specification that says no more than `spec` does."""
    return "\n".join(f"{key} = {json.dumps(getattr(s, key))}" for key in s.model_fields_set)


def curve(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype=np.float32).reshape(5, -1)


class After:
    """A `stopping` that turns true at its n-th question and stays so."""

    def __init__(self, questions: int) -> None:
        self.left = questions

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def set_engine(patch: pytest.MonkeyPatch) -> None:
    """Set the engine's path and a gradient's cost, which a clock decides otherwise, and take few, longer rounds.

    A budget of 40 gradients has 8 rounds of 5 then; what follows a round costs as much as ten such gradients.
    """
    from relaxbench.problems.landscapes.landscape import Landscape
    from relaxbench.training import costs
    from relaxbench.training import engine as engines

    def choose(problem: Any, place: Any, k: int | None = None, *others: Any) -> Any:
        return engine(k or 8, "compiled" if "compiled" in others else "vectorized")

    patch.setattr(engines, "choose_engine", choose)
    patch.setattr(Landscape, "rounds", 8)
    patch.setattr(costs, "calibrate", lambda problem, rules, *arguments: [dict(COST) for _ in rules])


def steady() -> None:
    """For a process of its own: nothing that is decided by a clock (as the fixture of the same name does)."""
    set_engine(pytest.MonkeyPatch())


COST = {"seconds_per_gradient": 1e-4, "seconds_spread": 0.01, "peak_bytes": 100}


def engine(population: int, path: Any = "vectorized") -> Any:
    from relaxbench.training.engine import Engine

    return Engine(path, population, "cpu", "float32", "float32", 1, "bit for bit")


def die() -> None:
    """End this process as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def victim(folder: str, s: StudySpec, when: str, count: int) -> None:
    """A session that is killed: at the n-th question whether to stop, or at a point of the bookkeeping at the end."""
    from relaxbench.study.coordination import optuna_mirror
    from relaxbench.study.coordination import session as module
    from relaxbench.study.execution import trainer

    steady()
    asked = 0

    def stopping() -> bool:
        nonlocal asked
        asked += 1
        if when == "round" and asked == count:
            die()
        return False

    if when == "round":
        trainer.CHECKPOINT_SECONDS = 0.0
    elif when == "before the mirror":
        module.mirror = lambda plans, address, until: die() if until == math.inf else None  # type: ignore[assignment]
    elif when in ("within a slice", "within the mirror"):
        add, mirror = optuna_mirror.add_trials, module.mirror
        module.SLICE_SECONDS = 60.0  # on a busy machine a slice of a second may end before it adds a trial
        if when == "within the mirror":  # the last one, of all that is left
            module.mirror = lambda *told: mirror(*told) if told[-1] == math.inf else None  # type: ignore[assignment]

        def added(*arguments: Any) -> None:
            add(*arguments)
            die()

        optuna_mirror.add_trials = added
    elif when == "never":
        pass
    run(Path(folder), s, stopping)
