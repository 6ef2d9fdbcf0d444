"""The winner among trials, by one rule for Python, SQL and pandas.

The trial with the lowest validation loss wins. Among equal ones the trial that comes first in the plan wins: its phase
(see `schema.PHASES`), then its block, then its number. Ids decide nothing, because they depend on when a study was
extended. A value that is missing or not finite comes last. The test split and the error rate play no part.

Every function's name says whether it asks for a complete search (``of_complete_…``) or takes what is done so far.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy import SQLColumnExpression, case

from relaxbench.store.schema import PHASES, Trial

if TYPE_CHECKING:
    import pandas as pd


class Ranked(Protocol):
    """A finished trial, as far as its rank depends on it: a `schema.Trial` or a row with these columns."""

    @property
    def value(self) -> Any: ...  # float or None
    @property
    def phase(self) -> Any: ...  # str
    @property
    def block(self) -> Any: ...  # int
    @property
    def number(self) -> Any: ...  # int


T = TypeVar("T", bound=Ranked)


def best_so_far(trials: Iterable[T]) -> T | None:
    """The winner among these finished trials, whether or not others are still to come; None if there are none."""
    return min(trials, key=rank, default=None)


def winner_of_complete_search(trials: Sequence[T], planned: int) -> T | None:
    """The winner among finished trials; None while there are fewer than planned."""
    return best_so_far(trials) if len(trials) >= planned else None


def rank(trial: Ranked) -> tuple[bool, float, int, int, int]:
    """A sort key: the winner has the smallest one."""
    finite = trial.value is not None and math.isfinite(trial.value)
    return not finite, trial.value if finite else 0.0, PHASES.index(trial.phase), trial.block, trial.number


def ranking() -> tuple[SQLColumnExpression[Any], ...]:
    """`rank` for the ORDER BY of a query on `schema.Trial`."""
    finite = Trial.value.between(-sys.float_info.max, sys.float_info.max)  # false for NULL, and for PostgreSQL's NaN
    phase = case({name: index for index, name in enumerate(PHASES)}, value=Trial.phase)
    return case((finite, 0), else_=1), case((finite, Trial.value), else_=0.0), phase, Trial.block, Trial.number


def best_rows_so_far(trials: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """The winner's row of every group, whether or not other trials are still to come.

    Args:
        trials: finished trials with the columns value, phase, block and number.
        by: columns that make up a group; none for all trials together.
    """
    import numpy as np

    loss = trials["value"].where(trials["value"].abs() < math.inf).to_numpy(dtype=float, na_value=math.nan)
    phase = [PHASES.index(name) for name in trials["phase"]]
    ranked = np.lexsort((trials["number"], trials["block"], phase, loss))  # by the last key first; NaN comes last
    rows = trials[[*by]].iloc[ranked].drop_duplicates() if by else trials[[]].iloc[ranked[:1]]
    return trials.loc[rows.index]
