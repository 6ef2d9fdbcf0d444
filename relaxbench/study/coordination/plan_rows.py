"""The rows of one method on one problem: reading finished trials, and adding planned ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from relaxbench.space import Value
from relaxbench.store.schema import FINISHED, Curve, Trial
from relaxbench.store.transactions import read, write
from relaxbench.study.coordination.size import Size


@dataclass(frozen=True, eq=False)
class PlanRows:
    """The trials of one method on one problem, as rows of the database.

    Attributes:
        database: that holds them.
        study: id of the study.
        name: the study's name.
        size: numbers of trials.
        problem: the problem's name.
        method: the method's label.
    """

    database: Database
    study: int
    name: str
    size: Size
    problem: str
    method: str

    def here(self) -> tuple[Any, ...]:
        """Conditions that select the trials of this method on this problem."""
        return (Trial.study_id == self.study, Trial.problem == self.problem, Trial.method == self.method)

    def finished(self, phase: str, blocks: range | None = None) -> list[Row[Any]]:
        """Finished trials of a phase, in order: id, phase, block, number, parent, value, params."""
        columns = (Trial.id, Trial.phase, Trial.block, Trial.number, Trial.parent, Trial.value, Trial.params)
        where = (*self.here(), Trial.phase == phase, Trial.status == "done")
        if blocks is not None:
            where = (*where, Trial.block.between(blocks.start, blocks.stop - 1))
        query = select(*columns).where(*where).order_by(Trial.block, Trial.number)
        return list(read(self.database, lambda connection: connection.execute(query).all()))

    def _so_far(self, block: int) -> list[Row[Any]]:
        """Finished trials of a block, pruned ones too, with their ledgers and curves, in the order of their numbers."""
        columns = (Trial.number, Trial.params, Trial.value, Trial.status, Trial.diverged, Trial.ledger)
        where = (*self.here(), Trial.phase == "explore", Trial.block == block, Trial.status.in_(FINISHED))
        query = select(*columns, Curve.data.label("curve")).outerjoin(Curve, Curve.trial_id == Trial.id)
        query = query.where(*where).order_by(Trial.number)
        return list(read(self.database, lambda connection: connection.execute(query).all()))

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

    def _drop_stale(self, phase: str, parent: int) -> None:
        """Delete waiting trials of a phase whose parent no longer wins since the study was extended."""
        stale = (*self.here(), Trial.phase == phase, Trial.status == "waiting", Trial.parent != parent)
        query = select(func.count()).select_from(Trial).where(*stale)
        if read(self.database, lambda connection: connection.scalar(query)):
            write(self.database, lambda connection: connection.execute(delete(Trial).where(*stale)))

    def _insert(self, rows: Sequence[dict[str, Any]]) -> int:
        """Add the rows that do not exist yet; returns how many."""
        if not rows:
            return 0
        key = ("phase", "block", "number", "parent")
        blocks = [row["block"] for row in rows]
        here = (*self.here(), Trial.phase == rows[0]["phase"], Trial.block.between(min(blocks), max(blocks)))
        query = select(*(getattr(Trial, name) for name in key)).where(*here)
        existing = {tuple(row) for row in read(self.database, lambda connection: connection.execute(query).all())}
        neutral = {"status": "waiting", "token": 0, "failures": 0, "diverged": False, "mirrored": False}
        new = [{**row, **neutral, "measures": {}, "ledger": {}} for row in rows]
        new = [row for row in new if tuple(row[name] for name in key) not in existing]
        dialect = postgresql if self.database.dialect.name == "postgresql" else sqlite
        if new:  # another worker may add the same rows at this moment
            insert = dialect.insert(Trial).on_conflict_do_nothing()
            write(self.database, lambda connection: connection.execute(insert, new))
        return len(new)
