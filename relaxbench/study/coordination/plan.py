"""Which trials a study consists of. Every row is a function of the study's seed and of finished trials alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from relaxbench.space import Space, Value, from_stored
from relaxbench.store.schema import Study, Trial
from relaxbench.store.transactions import read, write
from relaxbench.study.coordination.random_search import sample
from relaxbench.study.coordination.tpe import GENERATION, propose
from relaxbench.util.seeds import derive

PHASES = ("explore", "confirm", "exploit", "recommend")


@dataclass(frozen=True)
class Size:
    """How much tuning a method gets; see `spec.StudySpec`, whose repetitions are in `blocks` here."""

    seed: int
    blocks: int
    trials: int
    exploit: int
    recommend: int

    @classmethod
    def asked(cls, spec: dict[str, Any]) -> Size:
        """What a stored specification asks for."""
        blocks = spec["blocks"] * spec["repetitions"]
        return cls(spec["seed"], blocks, spec["trials"], spec["exploit"], spec["recommend"])

    def of(self, phase: str) -> int:
        """How many trials a phase has when it is complete."""
        counts = {"explore": self.blocks * self.trials, "confirm": self.blocks}
        return {**counts, "exploit": self.exploit, "recommend": self.recommend}[phase]

    @property
    def total(self) -> int:
        """Trials of all phases."""
        return sum(self.of(phase) for phase in PHASES)


@dataclass(frozen=True, eq=False)
class Plan:
    """The trials of one method on one problem.

    Attributes:
        database: where they lie.
        study: id of the study.
        name: the study's name.
        size: how many there are.
        problem: the problem's name.
        method: the method's label.
        space: what is searched.
        fixed: further hyperparameters and their values.
    """

    database: Database
    study: int
    name: str
    size: Size
    problem: str
    method: str
    space: Space
    fixed: dict[str, Value]

    def begin(self) -> None:
        """Rows of R blocks of n independent random trials, and of the first generation of TPE's."""
        rows = []
        for block in range(self.size.blocks):
            for number in range(self.size.trials):
                seed = derive(self.size.seed, "explore", self.problem, self.method, block, number)
                rows.append(self._row("explore", block, number, seed, {**sample(self.space, seed), **self.fixed}))
        self._insert(rows)
        self.unlock()

    def unlock(self) -> int:
        """Rows of trials that finished ones have made possible; returns how many are new.

        Whoever asks, and how often, the rows are the same.
        """
        return self._confirm() + self._generation() + self._recommend()

    def _confirm(self) -> int:
        """A row for the winner of every complete block. Its seed is shared by all methods, so that blocks are pairs."""
        rows = []
        for block, winner in self.winners().items():
            seed = derive(self.size.seed, "confirm", self.problem, block)
            rows.append(self._row("confirm", block, 0, seed, winner.params, parent=winner.id))
        return self._replace("confirm", rows)

    def _generation(self) -> int:
        """Rows of the next generation of TPE's trials, when those before it are complete."""
        there, done = self._exploited()
        if done < there or there >= self.size.exploit:
            return 0
        generation = done // GENERATION
        count = min(GENERATION, self.size.exploit - generation * GENERATION)
        earlier = [(trial.params, trial.value) for trial in self.finished("exploit") if trial.block < generation]
        seed = derive(self.size.seed, "tpe", self.problem, self.method, generation) % 2**32
        rows = []
        for number, params in enumerate(propose(self.space, seed, earlier)[:count]):
            seed = derive(self.size.seed, "exploit", self.problem, self.method, generation, number)
            rows.append(self._row("exploit", generation, number, seed, {**params, **self.fixed}))
        return self._insert(rows)  # of a generation in which a smaller study ended, the rest

    def _recommend(self) -> int:
        """Rows for the best settings that were found at all, on fresh seeds."""
        best = self.best()
        if best is None:
            return 0
        seeds = [derive(self.size.seed, "recommend", self.problem, n) for n in range(self.size.recommend)]
        rows = [self._row("recommend", 0, n, seed, best.params, parent=best.id) for n, seed in enumerate(seeds)]
        return self._replace("recommend", rows)

    def winners(self) -> dict[int, Row[Any]]:
        """The winner of every complete block, by validation loss: never by error, and never by the test split."""
        blocks: dict[int, list[Row[Any]]] = {}
        for trial in self.finished("explore"):
            blocks.setdefault(trial.block, []).append(trial)
        complete = {block: trials for block, trials in blocks.items() if len(trials) == self.size.trials}
        return {block: min(trials, key=lambda t: (t.value, t.number)) for block, trials in complete.items()}

    def best(self) -> Row[Any] | None:
        """The trial with the smallest validation loss of explore and exploit, once both are complete."""
        found = [*self.finished("explore"), *self.finished("exploit")]
        if len(found) < self.size.of("explore") + self.size.of("exploit"):
            return None
        return min(found, key=lambda t: (t.value, t.id))

    def finished(self, phase: str) -> list[Row[Any]]:
        """Finished trials of a phase, in order: id, block, number, parent, value, params."""
        columns = (Trial.id, Trial.block, Trial.number, Trial.parent, Trial.value, Trial.params)
        where = (*self.here(), Trial.phase == phase, Trial.status == "done")
        query = select(*columns).where(*where).order_by(Trial.block, Trial.number)
        return list(read(self.database, lambda connection: connection.execute(query).all()))

    def here(self) -> tuple[Any, ...]:
        """Conditions for the trials of this method on this problem."""
        return (Trial.study_id == self.study, Trial.problem == self.problem, Trial.method == self.method)

    def _exploited(self) -> tuple[int, int]:
        """TPE's trials: how many there are, and how many of them are done."""
        done = func.count().filter(Trial.status == "done")
        query = select(func.count(), done).where(*self.here(), Trial.phase == "exploit")
        there, finished = read(self.database, lambda connection: connection.execute(query).one())
        return there, finished

    def _row(
        self, phase: str, block: int, number: int, seed: int, params: dict[str, Value], parent: int = 0
    ) -> dict[str, Any]:
        place = {"study_id": self.study, "problem": self.problem, "method": self.method, "phase": phase}
        return {**place, "block": block, "number": number, "parent": parent, "seed": seed, "params": params}

    def _replace(self, phase: str, rows: list[dict[str, Any]]) -> int:
        """Add rows, and drop waiting ones whose parent won before the study was extended."""
        parents = [row["parent"] for row in rows]
        stale = (*self.here(), Trial.phase == phase, Trial.status == "waiting", Trial.parent.not_in(parents))
        query = select(func.count()).select_from(Trial).where(*stale)
        if read(self.database, lambda connection: connection.scalar(query)):
            write(self.database, lambda connection: connection.execute(delete(Trial).where(*stale)))
        return self._insert(rows)

    def _insert(self, rows: Sequence[dict[str, Any]]) -> int:
        """Add the rows that are not there yet; returns how many."""
        if not rows:
            return 0
        key = ("phase", "block", "number", "parent")
        query = select(*(getattr(Trial, name) for name in key)).where(*self.here(), Trial.phase == rows[0]["phase"])
        there = {tuple(row) for row in read(self.database, lambda connection: connection.execute(query).all())}
        neutral = {"status": "waiting", "token": 0, "failures": 0, "diverged": False, "mirrored": False}
        new = [{**row, **neutral, "measures": {}, "ledger": {}} for row in rows]
        new = [row for row in new if tuple(row[name] for name in key) not in there]
        dialect = postgresql if self.database.dialect.name == "postgresql" else sqlite
        if new:  # another worker may be adding the same at this moment
            insert = dialect.insert(Trial).on_conflict_do_nothing()
            write(self.database, lambda connection: connection.execute(insert, new))
        return len(new)


def plans(database: Database, study: int, problems: Sequence[str] = (), methods: Sequence[str] = ()) -> list[Plan]:
    """The plans of a study as its row describes it, of some problems and methods or of all.

    Nothing of the problems and rules themselves is needed.
    """
    query = select(Study.name, Study.spec, Study.manifest).where(Study.id == study)
    row = read(database, lambda connection: connection.execute(query).one())
    spec, manifest = row.spec, row.manifest
    size, found = Size.asked(spec), []
    for problem in spec["problems"]:
        for method in spec["methods"]:
            about = manifest["methods"][method]
            if problem in (problems or spec["problems"]) and method in (methods or spec["methods"]):
                space, fixed = from_stored(about["spaces"][problem]), about["fixes"][problem]
                found.append(Plan(database, study, row.name, size, problem, method, space, fixed))
    return found
