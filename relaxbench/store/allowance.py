"""The gradients of a block: as many as T whole trials cost. With a pruner more trials than T share them."""

from __future__ import annotations

import math

from sqlalchemy import ColumnElement, Select, func, select

from relaxbench.store.schema import FINISHED, Trial

SLACK = 1e-9
"""Share of a trial's budget by which rounding may falsify a sum of bills."""


def affordable(trials: int, budget: int, spent: float) -> int:
    """Return how many whole trials can be paid for with what a block has left.

    Args:
        trials: T.
        budget: gradients of a whole trial.
        spent: by the finished trials of the block.
    """
    return max(0, math.floor(trials - spent / budget + SLACK))


def bills(*where: ColumnElement[bool]) -> Select[str, str, int, int, float]:
    """Query the finished trials of a search and their gradients: problem, method, block, number of trials, gradients.

    Args:
        where: which trials.
    """
    gradients = Trial.ledger["gradients"].as_float() + Trial.ledger["jvps"].as_float()
    place = (Trial.problem, Trial.method, Trial.block)
    bill = select(*place, func.count(), func.coalesce(func.sum(gradients), 0.0))
    return bill.where(Trial.phase == "explore", Trial.status.in_(FINISHED), *where).group_by(*place)
