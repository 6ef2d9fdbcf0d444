"""The data of a report's figures, recomputed."""

from __future__ import annotations

import json
import math
import statistics
from typing import Any

import numpy as np
import pandas as pd
from recompute_claims import chances, measured, one_sample, tries, weighted, welch
from recompute_read import Report
from scipy import stats

Found = dict[tuple[str, str, str], dict[str, Any]]


def check_figures(report: Report, claims: Found) -> None:
    """Every figure that the page has of what is known here."""
    for problem in dict.fromkeys(report.verdicts["problem"]):
        check_results(report, problem, claims)
        check_curves(report, problem)
        check_target(report, problem)
        check_budget(report, problem)
        check_search(report, problem)
        check_history(report, problem)
        check_rest(report, problem)
    check_ladder(report)


def methods(report: Report, problem: str) -> list[str]:
    """Those of a problem, in the order of the table."""
    return [method for name, method in report.rows if name == problem]


def check_results(report: Report, problem: str, claims: Found) -> None:
    """Ratios, looks, and every block with the level of its method."""
    if (figure := report.figure("ratio", problem)) is not None:
        for row in figure.itertuples():
            known = claims[problem, row.method, ""]
            keys = [key for key in ("ratio", "low", "high", "band_low", "band_high", "look") if key in known]
            if known["verdict"] != "no claim":
                report.check("figure ratio", [getattr(row, key) for key in keys], [known[key] for key in keys])
            report.check("figure ratio", row.verdict, known["verdict"])
    if (figure := report.figure("looks", problem)) is not None:
        for method, rows in figure.groupby("method"):
            known = claims[problem, str(method), ""]["history"]
            for key in ("ratio", "low", "high", "error", "freedom", "band_low", "band_high"):
                report.check("figure looks", rows[key], [each.get(key, np.nan) for each in known])
    if (figure := report.figure("blocks", problem)) is not None:
        for method, rows in figure.groupby("method"):
            own = report.blocks[(report.blocks["problem"] == problem) & (report.blocks["method"] == method)]
            known = own.set_index("block")["test_metric"].sort_index()
            report.check("figure blocks", rows.set_index("block")["value"].sort_index(), known)
            report.check("figure blocks", rows["level"].iloc[0], report.rows[problem, str(method)]["level"])


def check_ladder(report: Report) -> None:
    """The ratios over the rungs of a ladder of budgets."""
    for base in dict.fromkeys(report.verdicts["base"]):
        for method in dict.fromkeys(report.verdicts["method"]):
            if (figure := report.figure("ladder", base, method)) is not None:
                for row in figure.itertuples():
                    known = report.rows[row.problem, method]
                    told = [row.rung, row.ratio, row.low, row.high]
                    report.check("figure ladder", told, [known[key] for key in ("rung", "ratio", "low", "high")])


def check_curves(report: Report, problem: str) -> None:
    """Levels, means and quartiles of learning curves at every point drawn, and the axis of seconds."""
    for method in methods(report, problem):
        if (figure := report.figure("curve", problem, method)) is None:
            continue
        for (owner, measure), rows in figure.groupby(["method", "measure"]):
            own = report.of(problem, str(owner))
            column = "validation_loss" if measure == "validation loss" else "validation_metric"
            values = np.stack([measured(report, problem, run, rows["gradients"], column) for run in own["confirm"]])
            values = np.maximum(values, least := floor_of(report, problem, column))
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
            for key, known in (("mean", values.mean(axis=0)), ("median", middle), ("low", low), ("high", high)):
                report.check(f"figure curve: {key} of {owner}", rows[key], known)
            of_runs = level if least > 0 else statistics.fmean
            report.check(f"figure curve: level of {owner}", rows["level"], list(map(of_runs, values.T.tolist())))
            if "seconds" in rows:
                cost = (own["seconds"] / own["gradients"]).mean()
                report.check("figure curve: seconds", rows["seconds"], rows["gradients"] * cost)


def floor_of(report: Report, problem: str, column: str) -> float:
    """The smallest positive value of the curves of block winners; minus infinity where some value is negative."""
    winners = report.blocks.loc[report.blocks["problem"] == problem, "confirm"]
    known = report.curves.loc[report.curves["trial_id"].isin(winners), column].to_numpy(dtype=float)
    return float(known[known > 0].min()) if (known[np.isfinite(known)] >= 0).all() else -np.inf


def level(runs: list[float]) -> float:
    """Geometric mean in which a disaster counts as 3 medians, or 4 mean deviations."""
    logs = [math.log(value) for value in runs]
    middle = statistics.median(logs)
    limit = middle + max(math.log(3), 4 * statistics.fmean(abs(value - middle) for value in logs))
    return math.exp(statistics.fmean(min(value, limit) for value in logs))


def check_target(report: Report, problem: str) -> None:
    """Gradients to the baseline's median loss at three quarters of the budget."""
    if (figure := report.figure("target", problem)) is None:
        return
    row = report.verdicts[report.verdicts["problem"] == problem].iloc[0]
    curves = {
        name: [report.runs[run] for run in report.of(problem, name)["confirm"] if run in report.runs]
        for name in methods(report, problem)
    }
    if not row["censored"]:
        before = [run[run["gradients"] <= 0.75 * row["budget"]] for run in curves[row["reference"]]]
        goal = float(np.median([part["validation_loss"].fillna(np.inf).iloc[-1] for part in before]))
        report.check("figure target: goal", figure["target"], np.full(len(figure), goal))
    medians = {}
    for told in figure.itertuples():
        if row["censored"]:
            metric = report.of(problem, told.method)["test_metric"]
            times = metric.where(metric < row["budget"], np.inf)
        else:
            times = pd.Series(
                [run.loc[run["validation_loss"] <= goal, "gradients"].min() for run in curves[told.method]]
            )
            times = times.astype(float).fillna(np.inf)
        order = times.sort_values().to_numpy()
        below = int(stats.binom.ppf(0.025, len(order), 0.5))  # the interval lies between two order statistics
        ends = [order[below - 1], order[-below]] if below else [np.nan, np.nan]
        medians[told.method] = np.median(order)
        report.check(
            f"figure target: {told.method}",
            [told.median, told.low, told.high, told.runs, told.misses],
            [medians[told.method], *ends, len(order), np.isinf(order).sum()],
        )
    for told in figure.itertuples():
        base = medians.get(row["reference"], np.inf)
        report.check("figure target: ratio", told.ratio, medians[told.method] / base if np.isfinite(base) else np.nan)


def check_budget(report: Report, problem: str) -> None:
    """Expected and median best of n, and the difference as a function of n."""
    names = methods(report, problem)
    explored = {name: tries(report, problem, name) for name in names}
    drawn = [name for name in names if report.rows[problem, name]["sampler"] == "random"]
    known = [value for name in drawn for value in report.tried(problem, name)["value"]]
    if known and spans_decades(report, problem, known):
        floor = min(value for value in known if value > 0)  # what a 0 counts as
        explored = {name: np.log10(table.clip(lower=floor)) for name, table in explored.items()}
    base = report.verdicts.loc[report.verdicts["problem"] == problem, "reference"].iloc[0]
    for name in names:
        if (figure := report.figure("budget", problem, name)) is not None:
            for row in figure.itertuples():
                ours, theirs = (jackknife(explored[each], row.n) for each in (name, base))
                ends = welch(ours, theirs, 0.05 / max(len(names) - 1, 1))
                report.check(
                    f"figure budget: {name}",
                    [row.difference, row.difference_low, row.difference_high],
                    [ours.mean() - theirs.mean(), *ends],
                )
    for name in names:
        if (figure := report.figure("best", problem, name)) is not None:
            for row in figure.itertuples():
                known = expected if row.view.startswith("expected") else median
                report.check(
                    f"figure best: {row.view} of {row.method}",
                    [row.value, row.low, row.high],
                    known(explored[row.method], row.n),
                )


def spans_decades(report: Report, problem: str, losses: list[float]) -> bool:
    """Whether logarithms are averaged: the problem says so, or the middle 90 % span three decades."""
    low, high = np.percentile(losses, [5, 95])
    return bool(report.problems[problem].get("decades")) or (min(losses) >= 0 and high > 1000 * low)


def best_of(values: np.ndarray, n: int) -> float:
    """Mean of the best over all subsets of n."""
    return weighted(sorted(values.ravel()), chances(values.size, n))


def jackknife(blocks: pd.DataFrame, n: int) -> np.ndarray:
    """A value a block that is low where leaving the block out costs; centred on the estimate, which has no bias."""
    values = blocks.to_numpy()
    without = np.array([best_of(np.delete(values, place, axis=0), n) for place in range(len(values))])
    return best_of(values, n) + (len(values) - 1) * (without.mean() - without)


def expected(blocks: pd.DataFrame, n: int) -> list[float]:
    """Expected best of n with its t interval over blocks."""
    low, high = one_sample(jackknife(blocks, n))
    return [best_of(blocks.to_numpy(), n), low, high]


def median(blocks: pd.DataFrame, n: int) -> list[float]:
    """Median best of n: half of all searches of n find less, so it is that quantile of one trial."""
    values, share = blocks.to_numpy().ravel(), 1 - 0.5 ** (1 / n)
    ends = stats.quantile_test(values, p=share).confidence_interval(0.95)
    return [float(np.quantile(values, share, method="averaged_inverted_cdf")), float(ends.low), float(ends.high)]


def check_search(report: Report, problem: str) -> None:
    """Quantiles of what random search found."""
    if (figure := report.figure("search", problem)) is not None:
        for row in figure.itertuples():
            values = report.tried(problem, row.method)["value"]
            known = [*values.quantile([0.05, 0.25, 0.5, 0.75, 0.95]), values.min(), len(values)]
            report.check("figure search", [row.p5, row.p25, row.p50, row.p75, row.p95, row.best, row.trials], known)


def check_history(report: Report, problem: str) -> None:
    """The best value so far, by a loop: over blocks of random search, and of TPE's one search."""
    if (figure := report.figure("history", problem)) is None:
        return
    over = report.trials[(report.trials["problem"] == problem) & (report.trials["status"] != "running")]
    asked = int(report.spec.get("trials") or 1)
    for (name, phase), told in figure.groupby(["method", "phase"]):
        own = over[(over["method"] == name) & (over["phase"] == phase)].sort_values(["block", "number"])
        whole = report.problems[problem]["budget"] if phase == "explore" and report.has_pruner(name) else None
        if phase == "exploit":
            searches = [own]
        elif whole:  # of any number of trials; those are over that have a winner
            blocks = report.blocks[(report.blocks["problem"] == problem) & (report.blocks["method"] == name)]
            searches = [part for block, part in own.groupby("block") if block in set(blocks["block"])]
        else:
            searches = [part for _, part in own.groupby("block") if len(part) == asked]
        seen = [seen_by(search, told["trials"], whole) for search in searches]
        best = [[min(part.loc[part["status"] == "done", "value"], default=np.nan) for part in parts] for parts in seen]
        low, middle, high = np.percentile(best, [25, 50, 75], axis=0)
        report.check("figure history", told[["median", "low", "high"]].T, [middle, low, high])
        lost = [[part["diverged"].sum() for part in parts] for parts in seen]
        report.check("figure history: diverged", told["diverged"], np.sum(lost, axis=0))
        pruned = [[(part["status"] == "pruned").sum() for part in parts] for parts in seen]
        report.check("figure history: pruned", told["pruned"], np.sum(pruned, axis=0))


def seen_by(search: pd.DataFrame, counts: pd.Series, whole: int | None) -> list[pd.DataFrame]:
    """A search's first trials, by the number of them; with a pruner those that so many whole ones' gradients pay."""
    if whole is None:
        return [search.head(int(count)) for count in counts]
    paid = search["gradients"].cumsum() / whole
    return [search[paid <= count + 1e-6] for count in counts]


def check_rest(report: Report, problem: str) -> None:
    """Costs, shares of importance, where schedules end, flatness."""
    rows = report.verdicts[report.verdicts["problem"] == problem].set_index("method")
    if (figure := report.figure("cost", problem)) is not None:
        base = rows.loc[rows["reference"].iloc[0]]
        usual = report.confirmations[(report.confirmations["problem"] == problem)]
        usual = usual[usual["method"] == rows["reference"].iloc[0]]
        gradient = (usual["seconds"] / usual["gradients"]).mean()
        for row in figure.itertuples():
            own = report.confirmations
            own = own[(own["problem"] == problem) & (own["method"] == row.method)]
            done = report.trials[(report.trials["problem"] == problem) & (report.trials["method"] == row.method)]
            done = done[done["status"].isin(["done", "pruned"])]
            told = [row.gradients, row.examples, row.seconds, row.seconds_ratio, row.trials, row.total_gradients]
            told.append(row.measurement_share)
            known = [
                *own[["gradients", "examples", "seconds"]].mean(),
                (own["seconds"] / own["gradients"]).mean() / gradient,
                len(done),
                done["gradients"].sum(),
                done["measurement"].sum() / done["gradients"].sum(),
            ]
            report.check(f"figure cost: {row.method}", told, known)
            report.check(
                "figure cost: a gradient", row.seconds_per_gradient, (own["seconds"] / own["gradients"]).mean()
            )
            report.check(
                "figure cost: memory", row.peak_bytes_ratio, rows["peak_bytes"][row.method] / base["peak_bytes"]
            )
    if (figure := report.figure("importance", problem)) is not None:
        total = figure.groupby("method")["share"].sum()
        report.check("figure importance: shares sum to 1", total, np.ones(len(total)))
        report.check("figure importance: shares are shares", figure["share"].clip(0, 1), figure["share"])
    if (figure := report.figure("sharpness", problem)) is not None:
        flat = report.flatness[(report.flatness["problem"] == problem) & (report.flatness["phase"] == "confirm")]
        flat = flat[flat["hessian_top_1"] > 0].sort_values(["method", "block", "hessian_top_1"])
        told = figure.sort_values(["method", "block", "top"])
        report.check("figure sharpness", told[["value", "top"]], flat[["test_metric", "hessian_top_1"]])
        means = told.groupby("method")["top"].mean()
        report.check("figure sharpness: mean", means, flat.groupby("method")["hessian_top_1"].mean())
    for method in methods(report, problem):
        if (figure := report.figure("schedule", problem, method)) is not None:
            check_schedules(report, figure)


def check_schedules(report: Report, figure: pd.DataFrame) -> None:
    """γ (or σ²) lies on the curves, ends where these end, and begins and ends where the settings say."""
    settings = report.trials.set_index("id")["params"]
    curves = report.curves[report.curves["trial_id"].isin(figure["trial_id"]) & report.curves["gamma"].notna()]
    drawn = figure.merge(
        curves[["trial_id", "gradients", "gamma"]], on=["trial_id", "gradients"], suffixes=("", "_run")
    )
    report.check("figure schedule: points", len(drawn), len(figure))
    report.check("figure schedule: points", drawn["gamma"], drawn["gamma_run"])
    ends = figure.groupby("trial_id")[["gradients", "gamma"]].last()
    report.check("figure schedule: ends", ends, curves.groupby("trial_id")[["gradients", "gamma"]].last())
    for trial, rows in figure.groupby("trial_id"):
        asked = json.loads(settings[trial])
        scope, power = ("sigma", 2) if "sigma_start" in asked or "sigma_end" in asked else ("gamma", 1)
        if f"{scope}_start" in asked and f"{scope}_end" in asked:
            low, high = sorted(asked[f"{scope}_{end}"] ** power for end in ("start", "end"))
            report.check("figure schedule: range", rows["gamma"].clip(low, high), rows["gamma"])
