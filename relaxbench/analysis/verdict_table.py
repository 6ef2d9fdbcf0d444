"""The verdict table: the results of a study as flat columns, for CSV and for work with pandas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import pandas as pd

from relaxbench.analysis.comparison import VERDICTS, Clock, Comparison, MethodResult, Opponent, Rates

_OWN = (
    *("problem", "problem_title", "method", "title", "role", "metric", "unit", "censored", "budget", "margin"),
    *("repetitions", "blocks", "planned", "mean", "std", "gradients", "seconds", "peak_bytes", "explored", "diverged"),
    *("confirm_diverged", "missed"),
)
_TEST = ("difference", "low", "high", "p", "p_exact", "p_equivalence", "correlation", "detectable")


def verdict_table(results: Sequence[MethodResult]) -> pd.DataFrame:
    """Return the results as a table: one row per problem and method.

    Columns: problem, method, their titles, role, metric, unit, censored, budget, margin; blocks (complete) of planned;
    mean and std over blocks of the test metric; reference (the baseline) and control (the best one), with their titles;
    against the baseline: difference, low, high, p, p_holm, p_exact, p_equivalence, correlation, detectable,
    probability_better, compared blocks, family, verdict and, for "no claim", its reason; the same at equal seconds
    (``seconds_…``, with ``seconds_at``, the seconds of a run); beyond_low and beyond_high, the interval of the
    difference under new blocks *and* new test examples, where right and wrong answers are stored; all of it again
    against the best control (``control_…``, ``control_seconds_…``); gradients, seconds (calibrated alone) and
    peak_bytes of a run; how many explore trials and confirm runs diverged, and how many confirm runs missed a censored
    metric's tolerance; the decimals with which to show the metric, and differences at equal seconds.

    In a repeated (A/A) study ``verdict`` is "repeated", and there are ``repeated`` (complete repetitions),
    ``called_better`` … (how often each verdict came up) and ``called_different`` (at equal gradients or at equal
    seconds), with its rate and Wilson interval.
    """
    rows = [_row(result) for result in results]
    table = pd.DataFrame(rows, columns=list(dict.fromkeys(key for row in rows for key in row)))
    for opponent in get_args(Opponent):
        for clock in get_args(Clock):
            prefix = _prefix(opponent, clock)
            at = ("at",) if clock == "seconds" else ()
            for column in (*_TEST, "p_holm", "probability_better", "compared", "family", *at, "verdict", "reason"):
                if prefix + column not in table:
                    table[prefix + column] = None if column in ("verdict", "reason") else np.nan
    for opponent in get_args(Opponent):
        for column in ("beyond_low", "beyond_high"):
            name = _prefix(opponent) + column
            table[name] = table[name].astype(float) if name in table else np.nan
    for column in ("decimals", "seconds_decimals"):
        table[column] = np.array([getattr(result, column) for result in results], dtype=int)
    return table


def _row(result: MethodResult) -> dict[str, Any]:
    row = {name: getattr(result, name) for name in _OWN}
    row |= {"reference": result.baseline, "control": result.control}
    row |= {"reference_title": result.baseline_title, "control_title": result.control_title}
    for opponent in get_args(Opponent):
        gradients, seconds = (result.against(opponent, clock) for clock in get_args(Clock))
        if gradients is None or seconds is None:
            continue
        prefix = _prefix(opponent)
        row |= {prefix + "reference_missed": gradients.reference_missed, prefix + "seconds_at": seconds.read_at}
        if np.isfinite(gradients.beyond_low):
            row |= {prefix + "beyond_low": gradients.beyond_low, prefix + "beyond_high": gradients.beyond_high}
        for comparison in (gradients, seconds):
            prefix = _prefix(opponent, comparison.clock)
            row |= {prefix + name: value for name, value in _columns(comparison).items()}
    row["verdict"] = result.verdict
    if result.baseline is None:
        row["reason"] = result.reason
    return row | (_rates(result.rates) if result.rates else {})


def _columns(comparison: Comparison) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "compared": comparison.pairs,
        "family": comparison.family,
        "reason": comparison.reason,
        "p_holm": comparison.p_holm,
    }
    if comparison.known:
        columns |= {name: getattr(comparison, name) for name in (*_TEST, "probability_better")}
    return columns | {"verdict": comparison.verdict}


def _rates(rates: Rates) -> dict[str, Any]:
    return {
        "repeated": rates.repetitions,
        "called_different": rates.different,
        "rate": rates.rate,
        "rate_low": rates.low,
        "rate_high": rates.high,
    } | {"called_" + verdict.replace(" ", "_"): rates.verdicts[verdict] for verdict in VERDICTS}


def _prefix(opponent: Opponent, clock: Clock = "gradients") -> str:
    return ("control_" if opponent == "control" else "") + ("seconds_" if clock == "seconds" else "")
