"""The rows of one method on one problem: reading finished trials, and adding planned ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Executable, Row, bindparam, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from relaxbench.space import Value
from relaxbench.store.schema import FINISHED, Curve, Trial
from relaxbench.store.transactions import read, write
from relaxbench.study.coordination.size import Size

# Asked again and again while a study runs: SQLAlchemy takes longer to build a query than SQLite to answer it.
HERE = (
    Trial.study_id == bindparam("study"),
    Trial.problem == bindparam("problem"),
    Trial.method == bindparam("method"),
)
OF_PHASE = (*HERE, Trial.phase == bindparam("phase"))
WITHIN = Trial.block.between(bindparam("first"), bindparam("last"))
DONE = (
    select(Trial.id, Trial.phase, Trial.block, Trial.number, Trial.parent, Trial.value, Trial.params)
    .where(*OF_PHASE, Trial.status == "done")
    .order_by(Trial.block, Trial.number)
)
DONE_WITHIN = DONE.where(WITHIN)
SO_FAR = (
    select(Trial.number, Trial.params, Trial.value, Trial.status, Trial.diverged, Trial.ledger)
    .add_columns(Curve.data.label("curve"))
    .outerjoin(Curve, Curve.trial_id == Trial.id)
    .where(*HERE, Trial.phase == "explore", Trial.block == bindparam("block"), Trial.status.in_(FINISHED))
    .order_by(Trial.number)
)
EXPLOITED = select(func.count().label("planned"), func.count().filter(Trial.status == "done").label("done")).where(
    *HERE, Trial.phase == "exploit"
)
STALE = (
    select(func.count())
    .select_from(Trial)
    .where(*OF_PHASE, Trial.status == "waiting", Trial.parent != bindparam("parent"))
)
KEY = ("phase", "block", "number", "parent")
EXISTING = select(*(getattr(Trial, name) for name in KEY)).where(*OF_PHASE, WITHIN)
ADD = {dialect.dialect.name: dialect.insert(Trial).on_conflict_do_nothing() for dialect in (postgresql, sqlite)}


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

    @cached_property
    def here(self) -> tuple[Any, ...]:
        """Conditions that select the trials of this method on this problem."""
        return (Trial.study_id == self.study, Trial.problem == self.problem, Trial.method == self.method)

    @cached_property
    def _place(self) -> dict[str, Any]:
        """What `HERE` asks for."""
        return {"study": self.study, "problem": self.problem, "method": self.method}

    def _read(self, query: Executable, **further: Any) -> list[Row[Any]]:
        """The rows that one of the queries above finds here."""
        asked = {**self._place, **further}
        return list(read(self.database, lambda connection: connection.execute(query, asked).all()))

    def finished(self, phase: str, blocks: range | None = None) -> list[Row[Any]]:
        """Finished trials of a phase, in order: id, phase, block, number, parent, value, params."""
        if blocks is None:
            return self._read(DONE, phase=phase)
        return self._read(DONE_WITHIN, phase=phase, first=blocks.start, last=blocks.stop - 1)

    def _so_far(self, block: int) -> list[Row[Any]]:
        """Finished trials of a block, pruned ones too, with their ledgers and curves, in the order of their numbers."""
        return self._read(SO_FAR, block=block)

    def _exploited(self) -> tuple[int, int]:
        """Count TPE's trials: all planned ones, and those that are done."""
        (row,) = self._read(EXPLOITED)
        return row.planned, row.done

    def _row(
        self, phase: str, block: int, number: int, seed: int, params: dict[str, Value], parent: int = 0
    ) -> dict[str, Any]:
        place = {"study_id": self.study, "problem": self.problem, "method": self.method, "phase": phase}
        return {**place, "block": block, "number": number, "parent": parent, "seed": seed, "params": params}

    def _drop_stale(self, phase: str, parent: int) -> None:
        """Delete waiting trials of a phase whose parent no longer wins since the study was extended."""
        if self._read(STALE, phase=phase, parent=parent)[0][0]:
            stale = (*self.here, Trial.phase == phase, Trial.status == "waiting", Trial.parent != parent)
            write(self.database, lambda connection: connection.execute(delete(Trial).where(*stale)))

    def _insert(self, rows: Sequence[dict[str, Any]]) -> int:
        """Add the rows that do not exist yet; returns how many."""
        if not rows:
            return 0
        phase, blocks = rows[0]["phase"], [row["block"] for row in rows]
        existing = set(map(tuple, self._read(EXISTING, phase=phase, first=min(blocks), last=max(blocks))))
        neutral = {"status": "waiting", "token": 0, "failures": 0, "diverged": False, "mirrored": False}
        new = [{**row, **neutral, "measures": {}, "ledger": {}} for row in rows]
        new = [row for row in new if tuple(row[name] for name in KEY) not in existing]
        if new:  # another worker may add the same rows at this moment
            add = ADD[self.database.dialect.name]
            write(self.database, lambda connection: connection.execute(add, new))
        return len(new)
