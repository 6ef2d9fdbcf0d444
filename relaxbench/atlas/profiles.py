"""Performance profiles over the rows of the atlas: how often a method is within a factor of the best.

After Dolan and Moré (Mathematical Programming 91, 2002): r is a method's geometric-mean metric over the smallest of all
tuned methods of the row, and ρ(τ) the share of rows with r ≤ τ. Estimates without intervals. A method is measured over
the rows on which it was run, whose number is stated; on each it counts once, however many studies repeat it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from relaxbench.analysis.targets import MIN_PROBLEMS, profile, score
from relaxbench.atlas.cells import Cell
from relaxbench.atlas.repeats import once


def relative(cells: Sequence[Cell]) -> pd.DataFrame:
    """Return r: one row per tuned method with its default space and per problem at a budget.

    Columns: base, budget, study, method, title, role, level, relative. Of studies that repeat a cell, the first counts.
    """
    rows = [
        (cell.base, cell.budget, cell.study, cell.method, cell.title, cell.role, cell.level)
        for cell in once(cells)
        if cell.arm == "tuned" and cell.space == "default" and cell.level > 0
    ]
    table = pd.DataFrame(rows, columns=["base", "budget", "study", "method", "title", "role", "level"])
    best = table.groupby(["base", "budget"], dropna=False)["level"].transform("min")
    return table.assign(relative=table["level"] / best)


def profiles(table: pd.DataFrame) -> pd.DataFrame:
    """Return the profiles: method, title, role, problems, score, tau, share; one row per step.

    Empty for methods with fewer than `MIN_PROBLEMS` problems.

    Args:
        table: of `relative`.
    """
    rows = []
    for (method, title, role), part in table.groupby(["method", "title", "role"], sort=False):
        ratios = part["relative"].to_numpy(dtype=float)
        if len(ratios) < MIN_PROBLEMS:
            continue
        height = score(ratios)
        for tau, share in zip(*profile(np.asarray(ratios)), strict=True):
            rows.append((method, title, role, len(ratios), height, float(tau), float(share)))
    columns = ["method", "title", "role", "problems", "score", "tau", "share"]
    return pd.DataFrame(rows, columns=columns)
