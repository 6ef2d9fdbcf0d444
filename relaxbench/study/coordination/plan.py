"""Plan the trials of a study. Every row is a function of the study's seed and of finished trials alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from relaxbench.space import Space, Value
from relaxbench.store.facts import SpecFacts, fixed_on, method_facts, planned_looks, space_on
from relaxbench.store.schema import PHASES, SEARCHED, Study, Trial
from relaxbench.store.transactions import read, write
from relaxbench.store.winners import winner_of_complete_search, winners_of_complete_blocks
from relaxbench.study.coordination.random_search import sample
from relaxbench.study.coordination.tpe import GENERATION, propose
from relaxbench.util.seeds import derive


@dataclass(frozen=True)
class Size:
    """The numbers of trials per method; see `spec.StudySpec`. `blocks` counts the blocks of all repetitions."""

    seed: int
    blocks: int
    trials: int
    exploit: int
    recommend: int

    @classmethod
    def of_spec(cls, spec: SpecFacts) -> Size:
        """The size that a stored specification requests."""
        blocks = planned_looks(spec)[-1] * spec["repetitions"]
        return cls(spec["seed"], blocks, spec["trials"], spec["exploit"], spec["recommend"])

    def of(self, phase: str) -> int:
        """The number of trials in a complete phase."""
        counts = {"explore": self.blocks * self.trials, "confirm": self.blocks}
        return {**counts, "exploit": self.exploit, "recommend": self.recommend}[phase]

    @property
    def total(self) -> int:
        """The number of trials in all phases."""
        return sum(self.of(phase) for phase in PHASES)


@dataclass(frozen=True, eq=False)
class Plan:
    """The trials of one method on one problem.

    Attributes:
        database: that holds them.
        study: id of the study.
        name: the study's name.
        size: numbers of trials.
        problem: the problem's name.
        method: the method's label.
        space: the searched hyperparameters.
        fixed: the other hyperparameters, with their values.
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
        """Add R blocks of n independent random trials, and the first generation of TPE's trials."""
        rows = []
        for block in range(self.size.blocks):
            for number in range(self.size.trials):
                seed = derive(self.size.seed, "explore", self.problem, self.method, block, number)
                rows.append(self._row("explore", block, number, seed, {**sample(self.space, seed), **self.fixed}))
        self._insert(rows)
        self.unlock()

    def unlock(self) -> int:
        """Add the trials that finished ones have made possible; returns how many are new.

        The rows are the same whichever worker calls this, and however often.
        """
        return self._confirm() + self._generation() + self._recommend()

    def _confirm(self) -> int:
        """Add a run of the winner of every complete block. All methods share its seed, so that blocks are pairs."""
        rows = []
        for block, winner in self.winners_of_complete_blocks().items():
            seed = derive(self.size.seed, "confirm", self.problem, block)
            rows.append(self._row("confirm", block, 0, seed, winner.params, parent=winner.id))
        return self._replace("confirm", rows)

    def _generation(self) -> int:
        """Add the next generation of TPE's trials, when the earlier generations are complete."""
        planned, done = self._exploited()
        if done < planned or planned >= self.size.exploit:
            return 0
        generation = done // GENERATION
        count = min(GENERATION, self.size.exploit - generation * GENERATION)
        earlier = [(trial.params, trial.value) for trial in self.finished("exploit") if trial.block < generation]
        seed = derive(self.size.seed, "tpe", self.problem, self.method, generation) % 2**32
        rows = []
        for number, params in enumerate(propose(self.space, seed, earlier)[:count]):
            seed = derive(self.size.seed, "exploit", self.problem, self.method, generation, number)
            rows.append(self._row("exploit", generation, number, seed, {**params, **self.fixed}))
        return self._insert(rows)  # a study that was smaller may have ended within a generation: add the rest

    def _recommend(self) -> int:
        """Add runs of the best settings of all, on fresh seeds."""
        best = self.winner_of_complete_search()
        if best is None:
            return 0
        seeds = [derive(self.size.seed, "recommend", self.problem, n) for n in range(self.size.recommend)]
        rows = [self._row("recommend", 0, n, seed, best.params, parent=best.id) for n, seed in enumerate(seeds)]
        return self._replace("recommend", rows)

    def winners_of_complete_blocks(self) -> dict[int, Row[Any]]:
        """The winner of every block whose random trials are all done, by block."""
        return winners_of_complete_blocks(self.finished("explore"), self.size.trials)

    def winner_of_complete_search(self) -> Row[Any] | None:
        """The winner of random search and TPE, once both are complete; None before."""
        trials = [trial for phase in SEARCHED for trial in self.finished(phase)]
        return winner_of_complete_search(trials, sum(self.size.of(phase) for phase in SEARCHED))

    def finished(self, phase: str) -> list[Row[Any]]:
        """Finished trials of a phase, in order: id, phase, block, number, parent, value, params."""
        columns = (Trial.id, Trial.phase, Trial.block, Trial.number, Trial.parent, Trial.value, Trial.params)
        where = (*self.here(), Trial.phase == phase, Trial.status == "done")
        query = select(*columns).where(*where).order_by(Trial.block, Trial.number)
        return list(read(self.database, lambda connection: connection.execute(query).all()))

    def here(self) -> tuple[Any, ...]:
        """Conditions that select the trials of this method on this problem."""
        return (Trial.study_id == self.study, Trial.problem == self.problem, Trial.method == self.method)

    def _exploited(self) -> tuple[int, int]:
        """Count TPE's trials: all planned ones, and those that are done."""
        done = func.count().filter(Trial.status == "done")
        query = select(func.count(), done).where(*self.here(), Trial.phase == "exploit")
        planned, finished = read(self.database, lambda connection: connection.execute(query).one())
        return planned, finished

    def _row(
        self, phase: str, block: int, number: int, seed: int, params: dict[str, Value], parent: int = 0
    ) -> dict[str, Any]:
        place = {"study_id": self.study, "problem": self.problem, "method": self.method, "phase": phase}
        return {**place, "block": block, "number": number, "parent": parent, "seed": seed, "params": params}

    def _replace(self, phase: str, rows: list[dict[str, Any]]) -> int:
        """Add rows, and delete waiting ones whose parent no longer wins since the study was extended."""
        parents = [row["parent"] for row in rows]
        stale = (*self.here(), Trial.phase == phase, Trial.status == "waiting", Trial.parent.not_in(parents))
        query = select(func.count()).select_from(Trial).where(*stale)
        if read(self.database, lambda connection: connection.scalar(query)):
            write(self.database, lambda connection: connection.execute(delete(Trial).where(*stale)))
        return self._insert(rows)

    def _insert(self, rows: Sequence[dict[str, Any]]) -> int:
        """Add the rows that do not exist yet; returns how many."""
        if not rows:
            return 0
        key = ("phase", "block", "number", "parent")
        query = select(*(getattr(Trial, name) for name in key)).where(*self.here(), Trial.phase == rows[0]["phase"])
        existing = {tuple(row) for row in read(self.database, lambda connection: connection.execute(query).all())}
        neutral = {"status": "waiting", "token": 0, "failures": 0, "diverged": False, "mirrored": False}
        new = [{**row, **neutral, "measures": {}, "ledger": {}} for row in rows]
        new = [row for row in new if tuple(row[name] for name in key) not in existing]
        dialect = postgresql if self.database.dialect.name == "postgresql" else sqlite
        if new:  # another worker may add the same rows at this moment
            insert = dialect.insert(Trial).on_conflict_do_nothing()
            write(self.database, lambda connection: connection.execute(insert, new))
        return len(new)


def plans(database: Database, study: int, problems: Sequence[str] = (), methods: Sequence[str] = ()) -> list[Plan]:
    """The plans of a study, for some or all of its problems and methods, from its row alone.

    The problems and rules are not imported.
    """
    query = select(Study.name, Study.spec, Study.manifest).where(Study.id == study)
    row = read(database, lambda connection: connection.execute(query).one())
    spec, manifest = row.spec, row.manifest
    size, chosen = Size.of_spec(spec), []
    for problem in spec["problems"]:
        for method in spec["methods"]:
            about = method_facts(manifest, method)
            if problem in (problems or spec["problems"]) and method in (methods or spec["methods"]):
                space, fixed = space_on(about, problem), fixed_on(about, problem)
                chosen.append(Plan(database, study, row.name, size, problem, method, space, fixed))
    return chosen
