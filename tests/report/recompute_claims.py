"""The comparisons that verdicts rest on, by plain loops and scipy: docs/statistics.md says how."""

from __future__ import annotations

import functools
import math
import statistics
import warnings
from typing import Any

import numpy as np
import pandas as pd
from recompute_read import Report
from scipy import stats

PREFIXES = ("", "seconds_", "control_", "longer_")
"""Of a comparison's columns: with the baseline, at equal seconds, with the best control, at the next larger budget."""

ALPHA = 0.05

Arm = dict[str, float]
"""An estimate on the logarithmic scale, its variance and its blocks; its runs, and how many diverged or missed."""


def judged(report: Report) -> dict[tuple[str, str, str], dict[str, Any]]:
    """All comparisons by problem, method and prefix; those at every look under ``history``."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in report.rows.values():
        if row["method"] == row["reference"] or row["reference"] != row["reference"] or row["repetitions"] > 1:
            continue
        place, base = (row["problem"], row["method"]), (row["problem"], row["reference"])
        history = look_by_look(report, place, base)
        primary = {"verdict": "no claim"} if not history else history[-1] | {"look": len(history), "history": history}
        found[(*place, "")] = primary
        found |= secondary(report, row, primary)
    return found


def look_by_look(
    report: Report, place: tuple[str, str], base: tuple[str, str], repetition: int = 0
) -> list[dict[str, Any]]:
    """The judgements of a method against the baseline, up to the look that decides."""
    history = []
    family, looks = family_of(report)
    for blocks in report.looks:
        arms = [measured_arm(report, *each, blocks, repetition) for each in (place, base)]
        if None in arms:
            break
        history.append(judge(*arms, ALPHA / family / looks, margin_of(report, place)))
        if ends_without_claim(*arms, history[-1]["verdict"]):
            history[-1] |= {"verdict": "no claim", "low": np.nan, "high": np.nan, "error": np.nan, "freedom": np.nan}
            break
        if history[-1]["verdict"] in ("better", "worse", "equivalent"):
            break
    return history


def family_of(report: Report) -> tuple[int, int]:
    """The number of comparisons with the baseline, and of declared looks."""
    methods, problems = (len(set(report.verdicts[column])) for column in ("method", "problem"))
    return max((methods - 1) * problems, 1), len(report.declared)


@functools.cache
def measured_arm(report: Report, problem: str, method: str, blocks: int, repetition: int = 0) -> Arm | None:
    """The arm by its test metric, which several comparisons have in common."""
    return arm(report, problem, method, blocks, repetition)


def arm(
    report: Report,
    problem: str,
    method: str,
    blocks: int,
    repetition: int = 0,
    readings: dict[int, float] | None = None,
) -> Arm | None:
    """The best of T among N random trials; None where a run is missing.

    Args:
        blocks: of the look.
        readings: id of a confirm run → its result; None for the test metric.
    """
    first, trials = repetition * report.looks[-1], int(report.rows[problem, method]["trials"])
    within = range(first, first + blocks)
    runs = report.runs_of(problem, method)
    runs = runs[runs["block"].isin(within)]
    results = dict(zip(runs["id"], runs["test_metric"], strict=True)) if readings is None else readings
    logs = {
        (run.block, run.number): log_of(report, problem, results[run.id])
        for run in runs.itertuples()
        if run.id in results and results[run.id] == results[run.id]
    }
    if not trials or report.protocol == 1 or report.rows[problem, method]["sampler"] != "random":
        by_block = {block: value for (block, _), value in logs.items()}
        if len(by_block) < blocks:
            return None
        values = [by_block[block] for block in within]
        estimate = statistics.fmean(limited(report, problem, values))
        pseudo = []
        for block in within if blocks > 1 else ():
            left = limited(report, problem, [by_block[other] for other in within if other != block])
            pseudo.append(blocks * estimate - (blocks - 1) * statistics.fmean(left))
        variance = variance_of(pseudo) / blocks if pseudo else np.nan
        return {"estimate": estimate, "variance": variance, "blocks": blocks} | ended(report, runs)
    tried = report.tried(problem, method)
    tried = tried[tried["block"].isin(within)].sort_values(["value", "block", "number"])
    if len(tried) < trials * blocks:
        return None
    order = list(zip(tried["block"], tried["number"], strict=True))[: confirmed(trials * blocks, trials)]
    if any(place not in logs for place in order):
        return None
    estimate = weighted(limited(report, problem, [logs[place] for place in order]), chances(trials * blocks, trials))
    best = ended(report, runs[[place in order for place in zip(runs["block"], runs["number"], strict=True)]])
    if blocks == 1:
        return {"estimate": estimate, "variance": np.nan, "blocks": 1} | best
    pseudo = []
    for block in within:
        left = limited(report, problem, [logs[place] for place in order if place[0] != block])
        without = weighted(left, chances(trials * (blocks - 1), trials))
        pseudo.append(blocks * estimate - (blocks - 1) * without)
    return {"estimate": estimate, "variance": variance_of(pseudo) / blocks, "blocks": blocks} | best


def variance_of(parts: list[float]) -> float:
    """The variance over blocks: 0 where they differ by rounding alone, which would pass for degrees of freedom."""
    spread = float(np.ptp(parts))
    return 0.0 if spread <= 1e-12 * max(1, *map(abs, parts)) else float(np.var(parts, ddof=1))


def ended(report: Report, runs: pd.DataFrame) -> Arm:
    """How the runs of an arm ended."""
    about = report.problems[runs["problem"].iloc[0]] if len(runs) else {"censored": False}
    late = runs["test_metric"] >= about["budget"] * about["metric_scale"] if about["censored"] else []
    return {"runs": len(runs), "lost": float(runs["diverged"].sum()), "late": float(np.sum(late))}


def chances(count: int, n: int) -> list[float]:
    """That the trial of rank j is the best of n: it is that in C(count − j, n − 1) of C(count, n) subsets."""
    every = math.comb(count, n)
    return [math.comb(count - rank, n - 1) / every for rank in range(1, count + 1)]


def confirmed(count: int, n: int) -> int:
    """How many of the best trials are confirmed: a third, or as many as hold 99 % of the weight."""
    reached, enough = 0.0, 0
    for chance in chances(count, n):
        if reached >= 0.99 - 1e-12:
            break
        reached, enough = reached + chance, enough + 1
    return max(-(-count // 3), enough)


def weighted(values: list[float], weights: list[float]) -> float:
    """The mean by rank; ranks beyond the values have no weight."""
    used = weights[: len(values)]
    return sum(value * weight for value, weight in zip(values, used, strict=False)) / sum(used) if values else np.nan


def log_of(report: Report, problem: str, value: float) -> float:
    """The logarithm of a metric: an error rate is at least half a test example, gradients are at most the budget."""
    about, least = report.problems[problem], report.half_example(problem)
    if about["censored"]:  # also of a run that diverged
        value = min(value, about["budget"] * about["metric_scale"])
    return math.log(max(value, least)) if max(value, least) > 0 else np.nan


def limited(report: Report, problem: str, values: list[float]) -> list[float]:
    """Logarithms of a method's runs; a disaster counts as 3 times their median, or 4 mean deviations above it."""
    if report.problems[problem]["censored"] or any(value != value for value in values):
        return values
    middle = statistics.median(values)
    deviation = statistics.fmean(abs(value - middle) for value in values)
    return [min(value, middle + max(math.log(3), 4 * deviation)) for value in values]


def margin_of(report: Report, place: tuple[str, str]) -> tuple[float, str] | None:
    """The margin as a number and its kind, from its words: "10 %" or "±0.5 points"."""
    words = report.rows[place]["margin"]
    if words != words or not words:
        return None
    number = float(str(words).strip("±").split()[0])
    return (number / 100, "ratio") if "%" in words else (number, "points")


def judge(ours: Arm, theirs: Arm, share: float, margin: tuple[float, str] | None) -> dict[str, Any]:
    """A verdict is where the interval lies."""
    difference = ours["estimate"] - theirs["estimate"]
    total = ours["variance"] + theirs["variance"]
    error = math.sqrt(total) if total >= 0 else np.nan
    found = {"ratio": math.exp(difference), "error": error, "verdict": "no claim", "low": np.nan, "high": np.nan}
    found |= {"compared_blocks": ours["blocks"], "reference_level": math.exp(theirs["estimate"])}
    found |= {"compared_level": math.exp(ours["estimate"]), "reference_blocks": theirs["blocks"]}
    if min(ours["blocks"], theirs["blocks"]) < 6 or not error >= 0:
        return found
    parts = sum(each["variance"] ** 2 / (each["blocks"] - 1) for each in (ours, theirs))
    freedom = total**2 / parts if parts > 0 else ours["blocks"] + theirs["blocks"] - 2
    low, high = (difference + sign * stats.t.isf(share / 2, freedom) * error for sign in (-1, 1))
    verdict = "better" if high < 0 else "worse" if low > 0 else "undecided"
    if margin is not None:
        ends = band(theirs, *margin, share)
        inner = [difference + sign * stats.t.isf(share, freedom) * error for sign in (-1, 1)]
        if verdict == "undecided" and ends[0] < inner[0] and inner[1] < ends[1]:
            verdict, low, high = "equivalent", max(low, ends[0]), min(high, ends[1])
        found |= {"band_low": math.exp(ends[0]), "band_high": math.exp(ends[1])}
    return found | {"verdict": verdict, "low": math.exp(low), "high": math.exp(high), "freedom": freedom}


def band(theirs: Arm, margin: float, kind: str, share: float) -> tuple[float, float]:
    """The logarithms of the ratios that are equivalent; points are seen from the reference's level, low from above."""
    if kind == "ratio":
        return math.log(1 - margin), math.log(1 + margin)
    upper = theirs["estimate"] + stats.t.isf(share, theirs["blocks"] - 1) * math.sqrt(theirs["variance"])
    below = margin * math.exp(-upper)
    return math.log(1 - below) if below < 1 else -math.inf, math.log(1 + margin * math.exp(-theirs["estimate"]))


def ends_without_claim(ours: Arm, theirs: Arm, verdict: str) -> bool:
    """Whether runs that diverged or missed the tolerance leave nothing to claim, at this look and at any later one."""
    sides = (ours, theirs)
    if any(side["lost"] == side["runs"] for side in sides) or all(side["late"] == side["runs"] for side in sides):
        return True
    if math.isnan(ours["estimate"] - theirs["estimate"]):  # a metric without a logarithm
        return True
    return verdict == "equivalent" and all(side["late"] for side in sides)


def secondary(report: Report, row: Any, primary: dict[str, Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Equal seconds, and for candidates the best control and the next larger budget, at the primary one's look."""
    place = row["problem"], row["method"]
    if "look" not in primary:
        return {}
    pairs: dict[str, tuple[Arm | None, Arm | None]] = {"seconds_": timed(report, row, primary)}
    others = {"control_": (row["problem"], row["control"]), "longer_": larger(report, row)}
    if row["role"] == "candidate":
        for prefix, other in others.items():
            if other is not None and other[1] == other[1]:
                pairs[prefix] = (latest(report, place, primary["look"]), latest(report, other, primary["look"]))
    family, looks = family_of(report)
    share = ALPHA / family / max(looks, len(pairs))
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for prefix, arms in pairs.items():
        if None in arms:
            found[(*place, prefix)] = {"verdict": "no claim"}
            continue
        margin = None if prefix == "seconds_" and row["censored"] else margin_of(report, place)
        claim = judge(*arms, share, margin)
        if ends_without_claim(*arms, claim["verdict"]):
            claim |= {"verdict": "no claim", "low": np.nan, "high": np.nan}
        if primary["verdict"] != "better":  # described, not judged
            kept = ("ratio", "compared_level", "reference_level")
            verdict = "no claim" if primary["verdict"] == "no claim" else "not tested"
            claim = {key: claim[key] for key in kept} | {"verdict": verdict, "low": np.nan, "high": np.nan}
        found[(*place, prefix)] = claim
    return found


def latest(report: Report, place: tuple[str, str], look: int) -> Arm | None:
    """The arm at the last complete look up to this one."""
    known = [each for blocks in report.looks[:look] if (each := measured_arm(report, *place, blocks)) is not None]
    return known[-1] if known else None


def larger(report: Report, row: Any) -> tuple[str, str] | None:
    """The baseline at the next larger budget of the same ladder."""
    rungs = report.verdicts[(report.verdicts["base"] == row["base"]) & (report.verdicts["rung"] > row["rung"])]
    if not len(rungs):
        return None
    return str(rungs.sort_values("rung")["problem"].iloc[0]), str(row["reference"])


def timed(report: Report, row: Any, primary: dict[str, Any]) -> tuple[Arm | None, Arm | None]:
    """Both arms at the time when the cheaper one has used up its budget."""
    problem, blocks = row["problem"], int(primary["compared_blocks"])
    names = [row["method"], row["reference"]]
    sides = [runs[runs["block"] < blocks] for runs in (report.runs_of(problem, name) for name in names)]
    cost = [float((side["seconds"] / side["gradients"]).mean()) for side in sides]
    if not np.isfinite(cost).all():
        return None, None
    spreads = [float(report.rows[problem, name]["cost_spread"]) for name in names]
    if abs(cost[0] - cost[1]) <= max(0.1, sum(each**2 for each in spreads if each == each) ** 0.5) * max(cost):
        cost = 2 * [sum(cost) / 2]
    arms = []
    end = min(float(side["gradients"].mean()) * each for side, each in zip(sides, cost, strict=True))
    for name, side, each in zip(names, sides, cost, strict=True):
        if row["censored"]:
            readings = {run.id: min(run.test_metric * each, row["budget"] * min(cost)) for run in side.itertuples()}
        else:
            readings = {run: float(measured(report, problem, run, end / each)) for run in side["id"]}
        if any(value != value for value in readings.values()):
            return None, None
        arms.append(arm(report, problem, name, blocks, readings=readings))
        if row["censored"] and arms[-1] is not None:
            arms[-1]["late"] = float(sum(value >= row["budget"] * min(cost) for value in readings.values()))
    return arms[0], arms[1]


def measured(report: Report, problem: str, run: int, at: Any, column: str = "validation_metric") -> Any:
    """What a run's curve says after so many gradients, between two measurements; NaN before the first."""
    if run not in report.runs:
        return np.full(np.shape(at), np.nan)
    curve = report.runs[run]
    values = curve[column].astype(float).fillna(np.inf)
    values = values.clip(upper=report.worst(problem, "value" if "loss" in column else column))
    found = np.interp(at, curve["gradients"].astype(float), values, left=np.nan)
    return np.where(np.isfinite(found), found, np.nan)


def one_sample(values: np.ndarray) -> tuple[float, float]:
    """The t interval of a mean."""
    if len(values) < 2:
        return np.nan, np.nan
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return float(np.mean(values)), float(np.mean(values))
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    return float(interval.low), float(interval.high)


def welch(ours: np.ndarray, theirs: np.ndarray, level: float) -> tuple[float, float]:
    """Welch's interval of a difference of two means, by scipy."""
    if all(np.ptp(side) <= 1e-12 * np.abs(side).max() for side in (ours, theirs)):
        return 2 * (float(ours.mean() - theirs.mean()),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where one of them does not vary
        interval = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(1 - level)
    return float(interval.low), float(interval.high)


def tries(report: Report, problem: str, method: str) -> pd.DataFrame:
    """Values of the explore trials of complete blocks: one row per block."""
    return report.tried(problem, method).pivot(index="block", columns="number", values="value").dropna()
