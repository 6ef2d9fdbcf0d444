"""The verdict table: the results of a study as flat columns, for CSV and for work with pandas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from relaxbench.analysis.comparison import KINDS, VERDICTS, Clock, Comparison, MethodResult, Opponent, Rates

_OWN = (
    *("problem", "problem_title", "base", "rung", "method", "title", "role", "without", "arm", "space", "dimensions"),
    *("settings", "borrowed"),
    *("metric", "unit", "censored", "budget", "margin", "protocol", "repetitions", "trials", "sampler"),
    *("blocks", "planned"),
    *("level", "mean", "std", "gradients", "seconds", "cost_spread", "peak_bytes", "outer_steps"),
    *("explored", "diverged", "confirmed", "confirm_diverged", "missed"),
)
_NUMBERS = (
    *("ratio", "low", "high", "error", "freedom", "band_low", "band_high", "level", "reference_level", "points"),
    *("look", "blocks", "reference_blocks"),
)
_PRIMARY = ("family", "looks", "following", "needed", "smallest_margin", "wrong", "reference_missed")
_DISASTERS = ("count", "runs", "bound", "limit")


def verdict_table(results: Sequence[MethodResult]) -> pd.DataFrame:
    """Return the results as a table: one row per problem and method.

    Columns: problem (with its base and rung on a ladder of budgets), method, titles, role, without (the part of its
    reference that it leaves out, "" for none), arm, space, dimensions; metric, unit, censored, budget, margin; blocks
    at the latest complete look of planned; level, the geometric mean of the best of `trials` trials, which `sampler`
    chose; mean and std over the confirm runs of block winners; reference (the baseline, or the method that it is
    against) and control (the best one), with their titles. Against the baseline: verdict, reason of "no
    claim", ratio with the one interval low … high, error and freedom of its logarithm, the band of equivalence, the
    level of either side (``compared_level``, ``reference_level``), the ratio in points at the reference's level,
    the look with its blocks, and family, looks, following, needed, smallest_margin, wrong (see `Comparison`). The
    same at equal seconds
    (``seconds_…``, with ``seconds_at``), against the best control (``control_…``) and against the baseline at the next
    larger budget (``longer_…``). Disasters; gradients, seconds, cost_spread (of seconds) and peak_bytes of a run;
    diverged trials and runs; decimals of the metric.

    In a repeated (A/A) study ``verdict`` is "repeated", and there are ``repeated`` (complete repetitions),
    ``called_better`` … (how often each verdict came up) and ``called_different`` with its rate and Wilson interval.
    """
    rows = [_row(result) for result in results]
    table = pd.DataFrame(rows, columns=list(dict.fromkeys(key for row in rows for key in row)))
    for opponent, clock in KINDS:
        prefix = _prefix(opponent, clock)
        for column in (
            *(_name(prefix, number) for number in _NUMBERS),
            *(["seconds_at"] if clock == "seconds" else []),
        ):
            table[column] = table[column].astype(float) if column in table else np.nan
        for column in ("verdict", "reason"):
            if prefix + column not in table:
                table[prefix + column] = None
    for column in (*_PRIMARY, *(f"disaster_{key}" for key in _DISASTERS)):
        table[column] = table[column].astype(float) if column in table else np.nan
    table["decimals"] = np.array([result.decimals for result in results], dtype=int)
    return table


def look_table(results: Sequence[MethodResult]) -> pd.DataFrame:
    """Return the primary comparisons look by look: one row per problem, method and look that was taken.

    Columns: problem, method, look, blocks, reference_blocks, verdict, ratio, low, high, error, freedom, band_low,
    band_high. A comparison stays as it was decided: it has no row after that look.
    """
    columns = ("problem", "method", "look", "blocks", "reference_blocks", "verdict", "ratio", "low", "high")
    rows = []
    for result in results:
        comparison = result.against("baseline")
        for look, step in enumerate(comparison.history if comparison else (), start=1):
            ends = np.exp([step.difference, step.low, step.high, step.band_low, step.band_high])
            where = (result.problem, result.method, look, step.blocks, step.reference_blocks, step.verdict)
            rows.append((*where, *ends[:3], step.error, step.freedom, *ends[3:]))
    return pd.DataFrame(rows, columns=[*columns, "error", "freedom", "band_low", "band_high"])


def _row(result: MethodResult) -> dict[str, Any]:
    row = {name: getattr(result, name) for name in _OWN}
    row |= {"reference": result.baseline, "control": result.control}
    row |= {"reference_title": result.baseline_title, "control_title": result.control_title}
    if result.disasters:
        row |= {f"disaster_{key}": getattr(result.disasters, key) for key in _DISASTERS}
    for opponent, clock in KINDS:
        comparison = result.against(opponent, clock)
        if comparison is not None:
            row |= _columns(comparison, _prefix(opponent, clock))
    row["verdict"] = result.verdict
    if result.baseline is None:
        row["reason"] = result.reason
    return row | (_rates(result.rates) if result.rates else {})


def _columns(comparison: Comparison, prefix: str) -> dict[str, Any]:
    columns = {_name(prefix, number): getattr(comparison, number) for number in _NUMBERS}
    columns |= {prefix + "verdict": comparison.verdict, prefix + "reason": comparison.reason}
    if not prefix:
        columns |= {name: getattr(comparison, name) for name in _PRIMARY}
    if comparison.clock == "seconds":
        columns["seconds_at"] = comparison.read_at
    return columns


def _name(prefix: str, number: str) -> str:
    """The name of a column; the method's own level and blocks have these names without a prefix."""
    return f"{prefix or 'compared_'}{number}" if number in ("level", "blocks") else prefix + number


def _rates(rates: Rates) -> dict[str, Any]:
    return {
        "repeated": rates.repetitions,
        "called_different": rates.different,
        "rate": rates.rate,
        "rate_low": rates.low,
        "rate_high": rates.high,
    } | {"called_" + verdict.replace(" ", "_"): rates.verdicts[verdict] for verdict in VERDICTS}


def _prefix(opponent: Opponent, clock: Clock = "gradients") -> str:
    return "seconds_" if clock == "seconds" else "" if opponent == "baseline" else f"{opponent}_"
