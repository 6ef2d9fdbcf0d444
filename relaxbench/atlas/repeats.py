"""Whether a second study of the same problem and budget agrees with the first: the same study with another seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from relaxbench.atlas.cells import Cell

COLUMNS = [
    *("base", "budget", "method", "title", "study", "other", "verdict", "other_verdict"),
    *("ratio", "low", "high", "other_ratio", "other_low", "other_high", "overlap", "same_verdict"),
]


def once(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells of the first study of every problem at a budget: without those that repeat a row."""
    first: dict[tuple[str, float], str] = {}
    return [cell for cell in cells if first.setdefault((cell.base, cell.budget), cell.study) == cell.study]


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
