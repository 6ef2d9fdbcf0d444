"""What several tests read from the database of a study."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from sqlalchemy import select

from relaxbench.problems import problem
from relaxbench.store.schema import Study
from relaxbench.store.workers import workers
from relaxbench.study.coordination.distributions import distributions
from relaxbench.study.coordination.optuna_mirror import ID
from relaxbench.study.definition.spec import StudySpec
from tests.study import tiny

Results = dict[Any, Any]
"""Trials by what they are, see `tiny.results`."""

DATA = """
import torch
from relaxbench.problems import SupervisedProblem

torch_x = torch.arange(120.0).view(40, 3).sin() * {scale}
torch_y = (torch_x.sum(1) > 0).long()
problem = SupervisedProblem(
    "mine", lambda: torch.nn.Linear(3, 2),
    lambda: {{s: (torch_x, torch_y) for s in ("train", "validation", "test")}}, batch_size=8, budget=40,
)
"""


def study_row(folder: Path) -> Any:
    database = tiny.opened(folder)
    with database.connect() as connection:
        row = connection.execute(select(Study.__table__)).one()
    database.dispose()
    return row


def sessions(folder: Path) -> list[Any]:
    """The rows of the workers."""
    database = tiny.opened(folder)
    found = workers(database, 1)
    database.dispose()
    return found


def current(results: Results) -> Results:
    """Without confirm and recommend runs of settings that no longer lead; the rest by what they are."""
    best: dict[Any, Any] = {}
    random: dict[Any, Any] = {}
    for key, row in results.items():
        (task, method, phase, block, number), value = key[:5], row[3]
        if phase == "explore":
            random.setdefault((task, method), []).append((value, block, number, key[:5]))
        if phase in ("explore", "exploit"):
            best.setdefault((task, method), []).append((value, phase != "explore", block, number, key[:5]))
    leaders = {("recommend", min(found)[-1]) for found in best.values()}
    for found in random.values():
        blocks, trials = (1 + max(place[index] for place in found) for index in (1, 2))
        leaders |= {("confirm", place[-1]) for place in sorted(found)[: tiny.best(blocks, trials)]}
    return {key: row for key, row in results.items() if key[5] is None or (key[2], key[5]) in leaders}


@contextmanager
def told_to_optuna(folder: Path) -> Iterator[RDBStorage]:
    """A study's trials as Optuna reads them by its own means; its connections are closed afterwards."""
    storage = RDBStorage(f"sqlite:///{folder / 'study.db'}")
    try:
        yield storage
    finally:
        storage.engine.dispose()


def assert_mirrored(folder: Path, s: StudySpec) -> None:
    """Optuna, read by its own means, has each explore and exploit trial exactly once, with its value and settings."""
    found = [row for row in tiny.rows(folder) if row.phase in ("explore", "exploit")]
    arms = [(name, method, phase) for name in s.problems for method in s.methods for phase in ("explore", "exploit")]
    with told_to_optuna(folder) as storage:
        for name, method, phase in arms:
            mine = {r.id: r for r in found if (r.problem, r.method, r.phase) == (name, method, phase)}
            if mine:
                loaded = optuna.load_study(study_name=f"{s.name}/{name}/{method}/{phase}", storage=storage)
                assert sorted(t.user_attrs[ID] for t in loaded.trials) == sorted(mine)
                space = distributions(s.space_of(method, problem(name)))
                for trial in loaded.trials:
                    row = mine[trial.user_attrs[ID]]
                    assert trial.state is optuna.trial.TrialState.COMPLETE
                    assert trial.value == row.value and trial.params == {n: row.params[n] for n in space}
                    assert trial.distributions == space
                    assert (trial.user_attrs["block"], trial.user_attrs["diverged"]) == (row.block, row.diverged)
                assert loaded.best_value == min(row.value for row in mine.values())
