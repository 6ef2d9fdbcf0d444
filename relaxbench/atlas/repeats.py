"""Whether a second study of the same problem and budget agrees with the first: the same study with another seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from relaxbench.atlas.cells import Cell

COLUMNS = [
    *("base", "budget", "method", "title", "study", "other", "verdict", "other_verdict"),
    *("ratio", "low", "high", "other_ratio", "other_low", "other_high", "overlap", "same_verdict"),
]


def once(cells: Sequence[Cell]) -> list[Cell]:
    """Return each method's cell on a problem at a budget once, of the first study that has it.

    The same method with another arm or space is another one. A study with a result comes before those without.
    """
    first: dict[tuple[str, float, str, str, str], str] = {}
    for cell in sorted(cells, key=_is_empty):  # in the order of the studies, as the sort is stable
        first.setdefault(_place(cell), cell.study)
    return [cell for cell in cells if first[_place(cell)] == cell.study]


def _place(cell: Cell) -> tuple[str, float, str, str, str]:
    return cell.base, cell.budget, cell.method, cell.arm, cell.space


def _is_empty(cell: Cell) -> bool:
    """Whether it has no result yet."""
    return math.isnan(cell.level) and not cell.known


def repeats(cells: Sequence[Cell], seeds: Mapping[str, object]) -> pd.DataFrame:
    """Return one row per comparison that two studies made: do their intervals overlap, do their verdicts agree?

    Two cells are the same comparison if problem, budget, method, arm, space, trials per block and budget agree, and the
    seeds of their studies differ. The first study is compared with each later one.

    Args:
        cells: of all studies.
        seeds: study → its seed.
    """
    first: dict[tuple[object, ...], Cell] = {}
    rows = []
    for cell in cells:
        if not cell.claimed:
            continue
        key = (cell.base, cell.budget, cell.method, cell.arm, cell.space, cell.trials, cell.metric)
        one = first.setdefault(key, cell)
        if one is cell or seeds[one.study] == seeds[cell.study]:
            continue
        overlap = one.low <= cell.high and cell.low <= one.high
        rows.append(
            (
                *(cell.base, cell.budget, cell.method, cell.title, one.study, cell.study, one.verdict, cell.verdict),
                *(one.ratio, one.low, one.high, cell.ratio, cell.low, cell.high),
                *(overlap, one.verdict == cell.verdict),
            )
        )
    return pd.DataFrame(rows, columns=COLUMNS)
