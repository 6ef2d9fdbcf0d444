"""Which trials a study consists of. Every row is a function of the study's seed and of finished trials alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from relaxbench.optim.hyper import Value
from relaxbench.problems import Problem
from relaxbench.seeds import derive
from relaxbench.store.schema import Trial
from relaxbench.study.spec import StudySpec
from relaxbench.study.suggest import sample

PHASES = ("explore", "confirm", "exploit", "recommend")
GENERATION = 4
"""Trials of a TPE generation: more in flight would starve it."""


@dataclass(frozen=True)
class Plan:
    """The trials of one method on one problem.

    Attributes:
        database: where they lie.
        study: id of the study.
        spec: what was asked.
        problem: the problem.
        method: the method's label.
    """

    database: Database
    study: int
    spec: StudySpec
    problem: Problem
    method: str

    def total(self, phase: str) -> int:
        """How many trials a phase has when it is complete."""
        blocks = self.spec.blocks * self.spec.repetitions
        counts = {"explore": blocks * self.spec.trials, "confirm": blocks}
        return {**counts, "exploit": self.spec.exploit, "recommend": self.spec.recommend}[phase]

    def explore(self) -> None:
        """Rows of R blocks of n independent random trials."""
        space, fixed = self.spec.space_of(self.method, self.problem), self.spec.fixed_of(self.method, self.problem)
        rows = []
        for block in range(self.spec.blocks * self.spec.repetitions):
            for number in range(self.spec.trials):
                seed = derive(self.spec.seed, "explore", self.problem.name, self.method, block, number)
                rows.append(self._row("explore", block, number, seed, {**sample(space, seed), **fixed}))
        self._insert(rows)

    def confirm(self) -> None:
        """A row for the winner of every complete block. Its seed is shared by all methods, so that blocks are pairs."""
        winners = self.winners()
        rows = []
        for block, winner in winners.items():
            seed = derive(self.spec.seed, "confirm", self.problem.name, block)
            rows.append(self._row("confirm", block, 0, seed, winner.params, parent=winner.id))
        self._replace("confirm", rows)

    def recommend(self) -> None:
        """Rows for the best settings that were found at all, on fresh seeds."""
        best = self.best()
        if best is not None:
            seeds = [derive(self.spec.seed, "recommend", self.problem.name, n) for n in range(self.spec.recommend)]
            rows = [self._row("recommend", 0, n, seed, best.params, parent=best.id) for n, seed in enumerate(seeds)]
            self._replace("recommend", rows)

    def winners(self) -> dict[int, Row[Any]]:
        """The winner of every complete block, by validation loss: never by error, and never by the test split."""
        blocks: dict[int, list[Row[Any]]] = {}
        for trial in self.finished("explore"):
            blocks.setdefault(trial.block, []).append(trial)
        complete = {block: trials for block, trials in blocks.items() if len(trials) == self.spec.trials}
        return {block: min(trials, key=lambda t: (t.value, t.number)) for block, trials in complete.items()}

    def best(self) -> Row[Any] | None:
        """The trial with the smallest validation loss of explore and exploit, once both are complete."""
        found = [*self.finished("explore"), *self.finished("exploit")]
        if len(found) < self.total("explore") + self.total("exploit"):
            return None
        return min(found, key=lambda t: (t.value, t.id))

    def done(self, phase: str) -> int:
        """Finished trials of a phase that count: of confirm and recommend, those of the current winners."""
        finished = self.finished(phase)
        if phase == "confirm":
            current = {winner.id for winner in self.winners().values()}
            return sum(trial.parent in current for trial in finished)
        if phase == "recommend":
            best = self.best()
            return sum(best is not None and trial.parent == best.id for trial in finished)
        return len(finished)

    def generation(self, block: int, settings: Sequence[dict[str, Value]]) -> None:
        """Rows of one generation of TPE's trials."""
        rows = []
        for number, params in enumerate(settings):
            seed = derive(self.spec.seed, "exploit", self.problem.name, self.method, block, number)
            rows.append(
                self._row("exploit", block, number, seed, {**params, **self.spec.fixed_of(self.method, self.problem)})
            )
        self._insert(rows)

    def finished(self, phase: str) -> list[Row[Any]]:
        """Finished trials of a phase, in order: id, block, number, parent, value, params."""
        columns = (Trial.id, Trial.block, Trial.number, Trial.parent, Trial.value, Trial.params)
        where = (*self.here(), Trial.phase == phase, Trial.status == "done")
        with self.database.connect() as connection:
            query = select(*columns).where(*where).order_by(Trial.block, Trial.number)
            return list(connection.execute(query).all())

    def here(self) -> tuple[Any, ...]:
        """Conditions for the trials of this method on this problem."""
        return (Trial.study_id == self.study, Trial.problem == self.problem.name, Trial.method == self.method)

    def _row(
        self, phase: str, block: int, number: int, seed: int, params: dict[str, Value], parent: int = 0
    ) -> dict[str, Any]:
        place = {"study_id": self.study, "problem": self.problem.name, "method": self.method, "phase": phase}
        return {**place, "block": block, "number": number, "parent": parent, "seed": seed, "params": params}

    def _replace(self, phase: str, rows: list[dict[str, Any]]) -> None:
        """Add rows, and drop waiting ones whose parent won before the study was extended."""
        parents = [row["parent"] for row in rows]
        stale = (*self.here(), Trial.phase == phase, Trial.status == "waiting", Trial.parent.not_in(parents))
        with self.database.begin() as connection:
            connection.execute(delete(Trial).where(*stale))
        self._insert(rows)

    def _insert(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add the rows that are not there yet."""
        rows = [{**row, "status": "waiting", "token": 0, "diverged": False, "mirrored": False} for row in rows]
        rows = [{**row, "measures": {}, "ledger": {}} for row in rows]
        if not rows:
            return
        with self.database.begin() as connection:
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            connection.execute(dialect.insert(Trial).on_conflict_do_nothing(), rows)
