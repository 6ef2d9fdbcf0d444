"""Sessions of workers whose trials are a number, and what they leave in the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select

from relaxbench.store.claims import Claims, worker_name
from relaxbench.store.database import open_database
from relaxbench.store.schema import Trial
from relaxbench.store.workers import arrive
from relaxbench.stress.simulated import METHODS, Load, make, outcome
from relaxbench.study.coordination.plan import plans
from relaxbench.study.coordination.session import Session, Shift

LOAD = Load(looks=(2,), trials=3, exploit=10, recommend=2, hyperparameters=2)
BEST = 4  # of 2 × 3 random trials: the best of 3 has rank 4 in one draw of 20, and no lower one
TOTAL = len(METHODS) * (2 * 3 + BEST + 10 + 2)


@dataclass
class Slots:
    """A trainer: so many trials side by side, each done after a round; what was taken, in order."""

    count: int = 2
    during: Callable[[Shift, list[Trial]], None] = lambda shift, trials: None
    taken: list[Trial] = field(default_factory=list)
    shifts: list[tuple[str, str, bool]] = field(default_factory=list)

    def train(self, shift: Shift) -> None:
        self.shifts.append((shift.plan.problem, shift.plan.method, shift.alone))
        while trials := shift.feed(self.count):
            self.taken += trials
            self.during(shift, trials)
            lost = shift.lost()
            shift.report([outcome(trial, 1) for trial in trials if trial.id not in lost])
            if not shift.go_on():
                return


def session(database: Engine, trainer: Slots, name: str | None = None, **options: Any) -> Session:
    retries = options.pop("retries", 3)
    claims = Claims(database, 1, name or worker_name(), retries=retries)
    presence = arrive(database, 1, claims.worker, "cpu", {})
    return Session(claims, plans(database, 1), presence, trainer.train, **options)


def rows(database: Engine) -> list[Any]:
    with database.connect() as connection:
        return list(connection.execute(select(Trial.__table__).order_by(Trial.id)))


def states(database: Engine) -> Counter[str]:
    return Counter(row.status for row in rows(database))


def results(database: Engine) -> dict[Any, Any]:
    return {(r.method, r.phase, r.block, r.number): (r.seed, r.params, r.value, r.status) for r in rows(database)}


def simulated(folder: Path) -> Iterator[Engine]:
    """A database with the study of `LOAD`, for a fixture."""
    engine = open_database(str(folder / "study.db"))
    make(engine, "s", LOAD)
    yield engine
    engine.dispose()
