"""The comparisons that verdicts rest on, by scipy: docs/statistics.md says how."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from recompute_read import Report
from scipy import stats

PREFIXES = ("", "seconds_", "control_", "control_seconds_")
"""Of a comparison's columns: with the baseline or the best control, at equal gradients or at equal seconds."""


def paired(ours: np.ndarray, theirs: np.ndarray, margin: float) -> dict[str, float]:
    """A comparison over pairs, by scipy; a margin that is NaN is none."""
    apart = ours - theirs
    n, mean = len(apart), float(apart.mean())
    flips = stats.permutation_test(
        (apart,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", rng=1, n_resamples=2**15
    )
    found = {"difference": mean, "p_exact": float(flips.pvalue)}
    found["correlation"] = np.nan if np.ptp(ours) == 0 or np.ptp(theirs) == 0 else stats.pearsonr(ours, theirs)[0]
    found["probability_better"] = stats.mannwhitneyu(theirs, ours).statistic / n**2
    scale = max(np.abs(ours).max(), np.abs(theirs).max())
    found["low"], found["high"], found["p"] = one_sample(apart, scale)
    if np.ptp(apart) <= 1e-12 * scale:
        equal = np.nan if np.isnan(margin) else 0.5**n if abs(mean) < margin else 1.0
        return found | {"p_equivalence": equal}
    sides = [
        stats.ttest_1samp(apart, end, alternative=side).pvalue for end, side in ((-margin, "greater"), (margin, "less"))
    ]
    return found | {"p_equivalence": max(sides)}


def one_sample(values: np.ndarray, scale: float | None = None) -> tuple[float, float, float]:
    """The t interval of a mean and the p-value of its being 0; signs decide where all values are the same."""
    if len(values) < 2:
        return np.nan, np.nan, np.nan
    if np.ptp(values) <= 1e-12 * (np.abs(values).max() if scale is None else scale):
        mean = float(np.mean(values))
        return mean, mean, 1.0 if mean == 0 else 2 * 0.5 ** len(values)
    test = stats.ttest_1samp(values, 0)
    interval = test.confidence_interval(0.95)
    return float(interval.low), float(interval.high), float(test.pvalue)


def holm(p: list[float]) -> list[float]:
    """Adjusted p-values: p of rank k (from 0) times m − k, never below a smaller one's."""
    order = sorted(range(len(p)), key=p.__getitem__)
    steps = np.maximum.accumulate([min(1.0, p[index] * (len(p) - rank)) for rank, index in enumerate(order)])
    return [float(steps[order.index(index)]) for index in range(len(p))]


def pairs(report: Report, row: Any, other: str, blocks: list[int], timed: bool) -> tuple[pd.DataFrame, bool]:
    """Results of a method and another over the blocks of both, and whether a claim can rest on them."""
    problem, arms = row["problem"], [report.of(row["problem"], name) for name in (row["method"], other)]
    arms = [arm[arm.index.isin(blocks)] for arm in arms]
    both = pd.concat([arm["test_metric"].rename(side) for arm, side in zip(arms, "xy", strict=True)], axis=1).dropna()
    lost = any(arm["diverged"].all() for arm in arms)
    late = row["censored"] and all((arm["test_metric"] >= row["budget"]).all() for arm in arms)
    sound = len(both) >= 6 and not lost and not late
    if not timed or both.empty:
        return both, sound
    cost = [float((arm["seconds"] / arm["gradients"]).mean()) for arm in arms]
    if abs(cost[0] - cost[1]) <= 0.1 * max(cost):
        cost = 2 * [sum(cost) / 2]
    if row["censored"]:
        return (both * cost).dropna(), sound and np.isfinite(cost).all()
    arms = [arm.loc[both.index] for arm in arms]
    seconds = np.minimum(*(arm["gradients"] * each for arm, each in zip(arms, cost, strict=True)))
    for arm, each, side in zip(arms, cost, "xy", strict=True):
        runs = zip(arm["confirm"], seconds / each, strict=True)
        both[side] = [float(measured(report, problem, run, at)) for run, at in runs]
    return both.dropna(), bool(sound and both.notna().all(axis=None) and np.isfinite(cost).all())


def measured(report: Report, problem: str, run: int, at: Any, column: str = "validation_metric") -> Any:
    """What a run's curve says after so many gradients, between two measurements; NaN before the first."""
    if run not in report.runs:
        return np.full(np.shape(at), np.nan)
    curve = report.runs[run]
    values = curve[column].astype(float).fillna(np.inf)
    values = values.clip(upper=report.worst(problem, "value" if "loss" in column else column))
    found = np.interp(at, curve["gradients"].astype(float), values, left=np.nan)
    return np.where(np.isfinite(found), found, np.nan)


def judged(report: Report, rows: list[Any], control: bool, blocks: list[int]) -> dict[tuple[str, str, str], dict]:
    """All comparisons of a family by problem, method and prefix, with Holm's correction and verdicts."""
    found, kinds = {}, PREFIXES[2:] if control else PREFIXES[:2]
    for row in rows:
        other = row["control" if control else "reference"]
        metrics = [report.of(row["problem"], name)["test_metric"] for name in (row["method"], other)]
        stalled = row["censored"] and (pd.concat(metrics, axis=1) >= row["budget"]).all(axis=1).any()
        for prefix in kinds:
            timed = prefix.endswith("seconds_")
            both, sound = pairs(report, row, other, blocks, timed)
            margin = np.nan if stalled or (timed and row["censored"]) else row["margin"]
            if len(both) >= 2:
                result = paired(both["x"].to_numpy(), both["y"].to_numpy(), margin)
                result["spread"] = float((both["x"] - both["y"]).std())
            else:
                result = {}
            found[row["problem"], row["method"], prefix] = result | {"compared": len(both), "sound": sound}
    claims = [each for each in found.values() if each["sound"]]
    for each, p_holm in zip(claims, holm([each["p"] for each in claims]), strict=True):
        each |= {"p_holm": p_holm, "family": len(claims)}
    for each in found.values():
        each["verdict"] = verdict(each)
    return found


def verdict(result: dict[str, Any]) -> str:
    """The word for a comparison."""
    if not result["sound"]:
        return "no claim"
    if result["p_holm"] <= 0.05 and result["difference"]:
        return "better" if result["difference"] < 0 else "worse"
    return "equivalent" if result["p_equivalence"] <= 0.05 else "undecided"


def power(result: dict[str, Any], effect: float) -> float:
    """The chance that the t test finds this true difference at the strictest level of Holm's correction."""
    n = result["compared"]
    critical = stats.t.isf(0.025 / result["family"], n - 1)
    return float(stats.nct.sf(critical, n - 1, effect / result["spread"] * np.sqrt(n)))
