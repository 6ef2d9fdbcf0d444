"""The data of a report's figures, recomputed."""

from __future__ import annotations

import functools
import json
import math
from typing import Any

import numpy as np
import pandas as pd
from recompute_claims import holm, measured, one_sample
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


def methods(report: Report, problem: str) -> list[str]:
    """Those of a problem, in the order of the table."""
    return [method for name, method in report.rows if name == problem]


def check_results(report: Report, problem: str, claims: Found) -> None:
    """Differences, and every block with the mean and its interval."""
    if (figure := report.figure("difference", problem)) is not None:
        for row in figure.itertuples():
            known = claims[problem, row.method, ""]
            report.check(
                "figure difference",
                [row.difference, row.low, row.high, row.p],
                [known[key] for key in ("difference", "low", "high", "p")],
            )
            report.check("figure difference", row.verdict, known["verdict"])
            if known["sound"]:
                report.check("figure difference", row.p_holm, known["p_holm"])
    if (figure := report.figure("blocks", problem)) is not None:
        for method, rows in figure.groupby("method"):
            known = report.of(problem, str(method))["test_metric"]
            report.check("figure blocks", rows.set_index("block")["value"].sort_index(), known)
            low, high, _ = one_sample(known.to_numpy())
            report.check(
                "figure blocks", [rows["mean"].iloc[0], rows["half"].iloc[0]], [known.mean(), (high - low) / 2]
            )


def check_curves(report: Report, problem: str) -> None:
    """Means and quartiles of learning curves at every point drawn, and the axis of seconds."""
    for method in methods(report, problem):
        if (figure := report.figure("curve", problem, method)) is None:
            continue
        for (owner, measure), rows in figure.groupby(["method", "measure"]):
            own = report.of(problem, str(owner))
            column = "validation_loss" if measure == "validation loss" else "validation_metric"
            values = np.stack([measured(report, problem, run, rows["gradients"], column) for run in own["confirm"]])
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
            for key, known in (("mean", values.mean(axis=0)), ("median", middle), ("low", low), ("high", high)):
                report.check(f"figure curve: {key} of {owner}", rows[key], known)
            if "seconds" in rows:
                cost = (own["seconds"] / own["gradients"]).mean()
                report.check("figure curve: seconds", rows["seconds"], rows["gradients"] * cost)


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
    """Expected and median best of n, and the verdict as a function of n."""
    names = methods(report, problem)
    explored = {name: matrix(report, problem, name) for name in names}
    told = {name: figure for name in names if (figure := report.figure("budget", problem, name)) is not None}
    p_values: dict[tuple[str, int], float] = {}
    base = report.verdicts.loc[report.verdicts["problem"] == problem, "reference"].iloc[0]
    for name, figure in told.items():
        for row in figure.itertuples():
            both = explored[name].index.intersection(explored[base].index)
            ours, theirs = (jackknife(explored[each].loc[both], row.n) for each in (name, base))
            low, high, p_values[name, row.n] = one_sample(ours - theirs)
            report.check(
                f"figure budget: {name}",
                [row.difference, row.difference_low, row.difference_high, row.p],
                [(ours - theirs).mean(), low, high, p_values[name, row.n]],
            )
    for n in {n for _, n in p_values}:
        family = [name for name, each in p_values if each == n]
        for name, p in zip(family, holm([p_values[name, n] for name in family]), strict=True):
            row = told[name].set_index("n").loc[n]
            word = "undecided" if p > 0.05 else "better" if row["difference"] < 0 else "worse"
            report.check("figure budget: verdict", row["verdict"], word if row["compared"] >= 6 else "no claim")
            report.check("figure budget: p_holm", row["p_holm"], p)
    for name in names:
        if (figure := report.figure("best", problem, name)) is not None:
            for row in figure.itertuples():
                known = expected if row.view.startswith("expected") else median
                report.check(
                    f"figure best: {row.view} of {row.method}",
                    [row.value, row.low, row.high],
                    known(explored[row.method], row.n),
                )


def matrix(report: Report, problem: str, method: str) -> pd.DataFrame:
    """Values of the explore trials of complete blocks: a row a block."""
    values = report.tried(problem, method).pivot(index="block", columns="number", values="value")
    return values.dropna()


def best_of(values: np.ndarray, n: int) -> float:
    """Mean of the best over all subsets of n."""
    return float(np.sort(values.ravel()) @ chances(values.size, n))


@functools.cache
def chances(count: int, n: int) -> np.ndarray:
    """That the j-th best of all is the best of n: it is that in C(count − j, n − 1) of C(count, n) subsets."""
    every = math.comb(count, n)
    return np.array([math.comb(count - rank, n - 1) / every for rank in range(1, count + 1)])


def jackknife(blocks: pd.DataFrame, n: int) -> np.ndarray:
    """A value a block that is low where leaving the block out costs; centred on the estimate, which has no bias."""
    without = np.array([best_of(blocks.drop(block).to_numpy(), n) for block in blocks.index])
    return best_of(blocks.to_numpy(), n) + (len(blocks) - 1) * (without.mean() - without)


def expected(blocks: pd.DataFrame, n: int) -> list[float]:
    """Expected best of n with its t interval over blocks."""
    low, high, _ = one_sample(jackknife(blocks, n))
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
    asked = int(over.loc[over["phase"] == "explore", "number"].max()) + 1
    for (name, phase), told in figure.groupby(["method", "phase"]):
        own = over[(over["method"] == name) & (over["phase"] == phase)].sort_values(["block", "number"])
        searches = [own] if phase == "exploit" else [part for _, part in own.groupby("block") if len(part) == asked]
        curves = []
        for search in searches:
            best, curve = np.inf, []
            for trial in search.head(len(told)).itertuples():
                best = min(best, trial.value) if trial.status == "done" else best
                curve.append(best)
            curves.append(curve)
        low, high = np.percentile(curves, [25, 75], axis=0)
        report.check("figure history", told[["mean", "low", "high"]].T, [np.mean(curves, axis=0), low, high])
        lost = np.cumsum([part["diverged"].head(len(told)).to_numpy() for part in searches], axis=1).sum(axis=0)
        report.check("figure history: diverged", told["diverged"], lost)


def check_rest(report: Report, problem: str) -> None:
    """Costs, shares of importance, where schedules end, flatness."""
    rows = report.verdicts[report.verdicts["problem"] == problem].set_index("method")
    if (figure := report.figure("cost", problem)) is not None:
        base = rows.loc[rows["reference"].iloc[0]]
        for row in figure.itertuples():
            own = report.of(problem, row.method)
            done = report.trials[(report.trials["problem"] == problem) & (report.trials["method"] == row.method)]
            done = done[done["status"] == "done"]
            told = [row.gradients, row.examples, row.seconds, row.seconds_ratio, row.trials, row.total_gradients]
            known = [
                *own[["gradients", "examples", "seconds"]].mean(),
                own["seconds"].mean() / base["seconds"],
                len(done),
                done["gradients"].sum(),
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
        flat = flat[flat["hessian_top_1"] > 0].set_index(["method", "block"]).sort_index()
        told = figure.set_index(["method", "block"]).sort_index()
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
