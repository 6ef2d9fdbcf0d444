"""How many processes a session on the CPU is worth: all cores for a long one, this process for a short one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from sqlalchemy import Engine

from relaxbench.problems import problem
from relaxbench.store.database import open_database
from relaxbench.store.facts import Manifest
from relaxbench.study.definition.opening import OpenStudy, open_study
from relaxbench.study.definition.prepare import prepare
from relaxbench.study.definition.spec import StudySpec
from relaxbench.study.execution import processes
from relaxbench.study.execution.options import parse_device
from relaxbench.study.execution.processes import cpu_threads, cpu_workers, gradient_seconds
from tests.study import tiny

TRIALS = 30
"""Of the study `tiny.spec()`, with 40 gradients each."""


def begun(database: Engine, s: StudySpec) -> OpenStudy:
    return open_study(database, s, "source", prepare(s), parse_device("cpu"))


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[OpenStudy]:
    database = open_database(str(tmp_path / "study.db"))
    yield begun(database, tiny.spec())
    database.dispose()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes a machine: its cores, its free memory, and its seconds per gradient."""

    def make(cores: int = 4, free: float = 1e12, seconds: float = 1.0) -> None:
        monkeypatch.setattr(processes, "cores", lambda: cores)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
        monkeypatch.setattr(processes, "gradient_seconds", lambda problem: seconds)

    return make


@pytest.mark.parametrize(
    ("cores", "threads", "free", "workers"),
    [
        (4, 1, 1e12, 4),
        (4, 2, 1e12, 2),
        (4, 8, 1e12, 1),
        (1, 1, 1e12, 1),
        (4, 1, 9e9, 3),  # half of the memory, 1.5 GB each
        (4, 1, 1e9, 1),
        (64, 1, 1e12, TRIALS),
    ],
)
def test_a_long_study_has_a_worker_per_core_as_far_as_memory_and_trials_go(
    cores: int, threads: int, free: float, workers: int, opened: OpenStudy, machine: Callable[..., None]
) -> None:
    machine(cores, free)
    assert cpu_workers(opened, threads) == workers


def test_a_short_study_stays_in_this_process(opened: OpenStudy, machine: Callable[..., None]) -> None:
    # 30 trials of 40 gradients, of which a population computes 20 while a single trial computes one.
    least = processes.WORTH_SECONDS * processes.TOGETHER / (TRIALS * 40)
    machine(seconds=1.01 * least)
    assert cpu_workers(opened, 1) == 4
    machine(seconds=0.99 * least)
    assert cpu_workers(opened, 1) == 1


def test_only_the_trials_that_are_missing_count(tmp_path: Path, machine: Callable[..., None]) -> None:
    tiny.run(tmp_path, tiny.spec())
    database = open_database(str(tmp_path / "study.db"))
    machine(seconds=1e9)
    assert cpu_workers(begun(database, tiny.spec()), 1) == 1
    assert cpu_workers(begun(database, tiny.spec(recommend=3)), 1) == 2  # one more of each method
    database.dispose()


@pytest.mark.parametrize(("wish", "threads"), [(None, 1), ("", 1), ("3", 3), ("4,2", 4), ("0", 1), ("many", 1)])
def test_a_new_study_has_one_thread_per_process_or_as_many_as_a_person_wishes(
    wish: str | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if wish is not None:
        monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", wish)
    assert cpu_threads() == threads


def test_a_study_keeps_the_threads_with_which_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    manifest = Manifest(engines={"rosenbrock": {**tiny.engine(8).as_dict(), "threads": 6}})  # type: ignore
    assert cpu_threads(manifest) == 6


def test_a_gradient_is_timed_on_the_problem_itself() -> None:
    small, large = problem("rosenbrock"), problem("digits-mlp")
    assert 0 < min(gradient_seconds(small) for _ in range(3)) < 10 * min(gradient_seconds(large) for _ in range(3)) < 10
