"""Which kind of problem goes with which ratio: rank correlations over the rows, as estimates.

The rows are few, chosen and not independent, so nothing is tested here: a correlation describes these rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from relaxbench.analysis.targets import MIN_PROBLEMS
from relaxbench.atlas.cells import Cell, Row
from relaxbench.atlas.repeats import once

TRAITS = {
    "budget": "budget (gradients)",
    "epochs": "passes over the data",
    "batch": "batch size",
    "parameters": "parameters",
    "level": "baseline's test error",
    "sharpness": "sharpness of the baseline's solution",
    "outer_steps": "outer steps of the method",
}
"""Column of a row (or of the cell: outer steps) → what it is, in words."""


def observations(rows: Sequence[Row], cells: Sequence[Cell]) -> pd.DataFrame:
    """Return one row per cell of a tuned method with a ratio and a claim: its ratio beside the traits of its problem.

    Columns: base, budget, study, method, title, ratio and `TRAITS`. Of studies that repeat a cell, the first counts.
    """
    about = {(row.study, row.problem): row for row in rows}
    table = []
    for cell in once(cells):
        row = about.get((cell.study, cell.problem))
        claimed = cell.known and cell.verdict != "no claim"  # else the ratio is one of runs that diverged or missed
        if row is None or not claimed or (cell.arm, cell.space) != ("tuned", "default"):
            continue
        traits = {name: getattr(row, name) for name in TRAITS if hasattr(row, name)}
        if row.unit != "%":
            traits["level"] = math.nan  # losses and gradients are no errors
        named = {"base": cell.base, "study": cell.study, "method": cell.method, "title": cell.title}
        table.append(named | {"ratio": cell.ratio} | traits | {"outer_steps": cell.outer_steps})
    return pd.DataFrame(table, columns=["base", "study", "method", "title", "ratio", *TRAITS])


def correlations(table: pd.DataFrame) -> pd.DataFrame:
    """Return Spearman's correlation of the ratio with every trait: method, title, trait, problems, correlation.

    Only where `MIN_PROBLEMS` rows have the trait, and it takes at least three values.

    Args:
        table: of `observations`.
    """
    rows = []
    for (method, title), part in table.groupby(["method", "title"], sort=False):
        for trait in TRAITS:
            pair = part[["ratio", trait]].astype(float).dropna()
            if len(pair) < MIN_PROBLEMS or pair[trait].nunique() < 3 or pair["ratio"].nunique() < 2:
                continue
            ranks = pair.rank()
            rows.append((method, title, trait, len(pair), float(ranks["ratio"].corr(ranks[trait]))))
    return pd.DataFrame(rows, columns=["method", "title", "trait", "problems", "correlation"])
