"""Performance profiles over the rows of the atlas: how often a method is within a factor of the best.

After Dolan and Moré (Mathematical Programming 91, 2002): r is a method's geometric-mean metric over the smallest of all
tuned methods of the row, and ρ(τ) the share of rows with r ≤ τ. Estimates without intervals. A method is measured over
the rows on which it was run, whose number is stated; on each it counts once, however many studies repeat it.

Studies of one problem draw other blocks, so a metric is first divided by that of the baseline of its own study; the
smallest one is that of all methods with the same baseline there. Within one study that changes nothing.
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

    Columns: base, budget, study, method, title, role, level, baseline (its label), relative, baseline_relative (r of
    the baseline of the same study). Of studies that repeat a cell, the first counts.
    """
    baselines: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        if cell.role == "baseline" and cell.level > 0:
            baselines.setdefault((cell.study, cell.problem), cell)
    rows = [
        (cell.base, cell.budget, cell.study, cell.method, cell.title, cell.role, cell.level, own.method, own.level)
        for cell in once(cells)
        if cell.arm == "tuned" and cell.space == "default" and cell.level > 0
        if (own := baselines.get((cell.study, cell.problem)))
    ]
    columns = ["base", "budget", "study", "method", "title", "role", "level", "baseline", "of"]
    table = pd.DataFrame(rows, columns=columns)
    ratio = table["level"] / table.pop("of")
    best = ratio.groupby([table[name] for name in ("base", "budget", "baseline")], dropna=False).transform("min")
    best = best.clip(upper=1.0)  # the baseline is one of the methods, also where another study's counts
    return table.assign(relative=ratio / best, baseline_relative=1 / best)


def profiles(table: pd.DataFrame) -> pd.DataFrame:
    """Return the profiles: method, title, role, problems, score, tau, share; one row per step.

    Empty for methods with fewer than `MIN_PROBLEMS` problems.

    Args:
        table: of `relative`.
    """
    return _profiles(table, "relative")


def baseline_profiles(table: pd.DataFrame) -> pd.DataFrame:
    """Return the profile of the baseline on the rows of every method, of the same studies; columns as of `profiles`.

    Args:
        table: of `relative`.
    """
    return _profiles(table, "baseline_relative")


def _profiles(table: pd.DataFrame, column: str) -> pd.DataFrame:
    rows = []
    for method, part in table.groupby("method", sort=False):
        ratios = part[column].to_numpy(dtype=float)
        if len(ratios) < MIN_PROBLEMS:
            continue
        title, role, height = part["title"].iloc[0], part["role"].iloc[0], score(ratios)
        for tau, share in zip(*profile(np.asarray(ratios)), strict=True):
            rows.append((method, title, role, len(ratios), height, float(tau), float(share)))
    columns = ["method", "title", "role", "problems", "score", "tau", "share"]
    return pd.DataFrame(rows, columns=columns)
