"""Spot checks of a pruner: a share of the pruned trials, chosen by seed, is run again to its end, and never wins.

A spot check has the seed and the settings of its trial, so its first rounds are the same, bit for bit. It is a row of
its own, billed apart. No generation waits for it, and no plan looks at its result.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, select
from sqlalchemy import Engine as Database

from relaxbench.store.schema import Trial
from relaxbench.store.transactions import read
from relaxbench.util.seeds import derive


def chosen(
    database: Database,
    where: Sequence[ColumnElement[bool]],
    place: tuple[int, str, str],
    share: float,
    known: Collection[int],
) -> tuple[list[Row[Any]], list[int]]:
    """Return the pruned trials that are run again, and the ids of all that were looked at.

    Args:
        database: that holds them.
        where: conditions that select the trials of a method on a problem.
        place: the study's seed, the problem and the method.
        share: of the pruned trials.
        known: ids of those that were looked at before.
    """
    query = select(Trial.id, Trial.block, Trial.number).where(*where, Trial.status == "pruned")
    pruned = read(database, lambda connection: connection.execute(query).all())
    new = [row for row in pruned if row.id not in known]
    ids = [row.id for row in new if derive(place[0], "spot-check", *place[1:], row.block, row.number) / 2**63 < share]
    trials = select(Trial.id, Trial.block, Trial.number, Trial.seed, Trial.params).where(Trial.id.in_(ids))
    found = read(database, lambda connection: connection.execute(trials).all()) if ids else []
    return list(found), [row.id for row in new]
