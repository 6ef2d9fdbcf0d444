"""All that a report says, recomputed from the files beside it, without a line of relaxbench.

``python tests/report/recompute.py reports/digits.html`` prints what agrees and exits with 1 where something does not.
docs/statistics.md says how things are computed; here scipy does it, or a plain loop.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from recompute_claims import chances, confirmed, judged, latest, look_by_look, weighted
from recompute_figures import check_figures
from recompute_read import Report
from recompute_words import check_words
from scipy import stats

Claims = dict[tuple[str, str, str], dict[str, Any]]
"""Comparisons by problem, method and prefix."""


def check_blocks(report: Report) -> None:
    """Winners are the best explore trials, and their results those of the same settings on a fresh seed."""
    trials = report.trials.set_index("id")
    for row in report.blocks[report.blocks["winner"].notna()].itertuples():
        tried = report.tried(row.problem, row.method)
        tried = tried[tried["block"] == row.block].sort_values(["value", "number"])
        report.check("blocks: winner", [row.winner, row.winner_value], tried[["id", "value"]].iloc[0])
        if row.confirm == row.confirm:
            confirm = trials.loc[int(row.confirm)]
            report.check("blocks: parent", confirm["parent"], row.winner)
            report.check("blocks: phase", confirm["phase"], "confirm")
            result = confirm[["test_metric", "value"]].astype(float)
            report.check("blocks: result", [row.test_metric, row.value], result)
    for (problem, method, repetition), runs in report.confirmations.groupby(["problem", "method", "repetition"]):
        tried = report.tried(problem, method)
        order = list(tried[tried["repetition"] == repetition].sort_values(["value", "block", "number"])["id"])
        for row in runs.itertuples():
            run = trials.loc[row.id]
            report.check("confirmations: result", row.test_metric, run["test_metric"])
            if row.parent == row.parent:
                report.check("confirmations: parent", run["parent"], row.parent)
                report.check("confirmations: rank", row.rank, order.index(row.parent) + 1)
                parent = trials.loc[row.parent, ["value", "block", "number"]].astype(float)
                report.check("confirmations: place", [row.parent_value, row.block, row.number], parent)
    for (problem, method), runs in report.recommended.groupby(["problem", "method"]):
        best = pd.concat([report.tried(problem, method, phase) for phase in ("explore", "exploit")])
        report.check("recommended: value", runs["source_value"], np.full(len(runs), best["value"].min()))
        report.check("recommended: parent", trials.loc[runs["id"], "parent"], runs["source"])
    confirmed = report.flatness[report.flatness["phase"] == "confirm"]
    known = report.confirmations.set_index("id")["test_metric"]
    report.check("flatness: metric", confirmed["test_metric"], known.reindex(confirmed["trial_id"]))


def check_verdicts(report: Report) -> Claims:
    """The verdict table and that of the looks; returns all comparisons."""
    rows = list(report.rows.values())
    for row in rows:
        check_row(report, row)
    found = judged(report)
    for (problem, method, prefix), result in found.items():
        row = report.rows[problem, method]
        report.check(f"verdicts: {prefix}verdict of {method}", row[prefix + "verdict"], result["verdict"])
        keys = {"low", "high"} if result["verdict"] == "no claim" else result.keys() - {"verdict", "history", "look"}
        for key in keys & result.keys():
            name = key if key.startswith("compared_") and not prefix else prefix + key.removeprefix("compared_")
            report.check(f"verdicts: {name} of {method}", row[name], result[key])
        if not prefix and "look" in result:
            report.check("verdicts: look", row["look"], result["look"])
            check_history(report, problem, method, result["history"])
    check_repetitions(report)
    return found


def check_row(report: Report, row: Any) -> None:
    """A method's own results: its level, cost, best control, disasters."""
    problem, method = row["problem"], row["method"]
    own, runs = report.of(problem, method), report.runs_of(problem, method)
    every = report.confirmations
    every = every[(every["problem"] == problem) & (every["method"] == method)]
    report.check("verdicts: mean", [row["mean"], row["std"]], [own["test_metric"].mean(), own["test_metric"].std()])
    cost = every[["gradients", "seconds"]].mean()
    report.check("verdicts: cost", [row["gradients"], row["seconds"], row["confirmed"]], [*cost, len(every)])
    known = latest(report, (problem, method), len(report.looks))
    report.check("verdicts: level", row["level"], np.exp(known["estimate"]) if known else np.nan)
    base = report.runs_of(problem, row["reference"]) if row["reference"] == row["reference"] else runs[:0]
    if len(base) and len(every) and report.protocol == 2:
        limit = 3 * max(float(np.median(base["test_metric"])), report.half_example(problem))
        count, total = int((every["test_metric"] > limit).sum()), len(every)
        bound = stats.binomtest(count, total).proportion_ci(0.9).high  # two-sided 90 %: 5 % above
        told = [row[f"disaster_{key}"] for key in ("count", "runs", "limit", "bound")]
        about, ends = report.problems[problem], [report.worst(problem, "test_metric")]
        ends += [100] * (about["unit"] == "%") + [about["budget"]] * bool(about["censored"] and about["budget"])
        possible = limit < min(ends)  # else not even a run that diverged is one
        report.check("verdicts: disasters", told, [count, total, limit, bound] if possible else [np.nan] * 4)
    controls = [name for (where, name), each in report.rows.items() if where == problem and each["role"] == "control"]
    known = [value for name in controls for value in report.runs_of(problem, name)["value"].dropna()]
    floor = min((value for value in known if value > 0), default=np.nan) if min(known, default=0) >= 0 else np.nan
    losses = {name: loss for name in controls if (loss := loss_of(report, problem, name, floor)) == loss}
    report.check(
        "verdicts: best control",
        row["control"] if row["control"] == row["control"] else "",
        min(losses, key=losses.__getitem__) if losses else "",
    )


def loss_of(report: Report, problem: str, method: str, floor: float) -> float:
    """The validation loss of the best of T on fresh seeds, at the latest look: of logarithms, disasters limited."""
    arm, trials = latest(report, (problem, method), len(report.looks)), report.rows[problem, method]["trials"]
    if arm is None:
        return np.nan
    blocks = int(arm["blocks"])
    runs = report.runs_of(problem, method)
    values = {(run.block, run.number): run.value for run in runs.itertuples() if run.block < blocks}
    if floor == floor and values:
        logs = {place: math.log(max(value, floor)) for place, value in values.items()}
        middle = statistics.median(logs.values())
        deviation = statistics.fmean(abs(value - middle) for value in logs.values())
        values = {place: min(value, middle + max(math.log(3), 4 * deviation)) for place, value in logs.items()}
    if not trials or report.protocol == 1 or report.rows[problem, method]["sampler"] != "random":
        return float(np.mean(list(values.values())))
    tried = report.tried(problem, method)
    tried = tried[tried["block"] < blocks].sort_values(["value", "block", "number"])
    order = list(zip(tried["block"], tried["number"], strict=True))[: confirmed(len(tried), int(trials))]
    return weighted([values[place] for place in order], chances(len(tried), int(trials)))


def check_history(report: Report, problem: str, method: str, history: list[dict[str, Any]]) -> None:
    """The judgements look by look."""
    told = report.history[(report.history["problem"] == problem) & (report.history["method"] == method)]
    report.check("looks: how many", len(told), len(history))
    for (_, row), known in zip(told.iterrows(), history, strict=False):
        report.check("looks: verdict", row["verdict"], known["verdict"])
        keys = [key for key in ("ratio", "low", "high", "error", "freedom", "band_low", "band_high") if key in known]
        report.check(f"looks: numbers of {method}", row[keys], [known[key] for key in keys])


def check_repetitions(report: Report) -> None:
    """Of a repeated study: how often each verdict came up, every repetition going through its looks alone."""
    rows = [row for row in report.rows.values() if row["repetitions"] > 1 and row["method"] != row["reference"]]
    for row in rows:
        counts = Counter[str]()
        for repetition in range(int(row["repetitions"])):
            places = [(row["problem"], row[side]) for side in ("method", "reference")]
            history = look_by_look(report, *places, repetition)
            over = history and history[-1]["verdict"] != "undecided" and history[-1]["compared_blocks"] >= 6
            if over or len(history) == len(report.looks):
                counts.update([history[-1]["verdict"], "repeated"])
        different = counts["better"] + counts["worse"]
        told = [row["repeated"], row["called_different"], row["called_better"], row["called_worse"]]
        report.check("repetitions", told, [counts["repeated"], different, counts["better"], counts["worse"]])
        if counts["repeated"]:
            rate = stats.binomtest(different, counts["repeated"]).proportion_ci(method="wilson")
            report.check("repetitions", [row["rate_low"], row["rate_high"]], [rate.low, rate.high])


def main(path: str) -> int:
    """Print what agrees and what does not."""
    report = Report(Path(path))
    check_blocks(report)
    claims = check_verdicts(report)
    check_words(report, claims)
    check_figures(report, claims)
    for what, count in report.agreed.items():
        print(f"{what}: {count} agree")
    others = sorted({key.split("-")[0] for key in report.page.figures.keys() - report.seen})
    print(f"not recomputed: {', '.join(others) or 'nothing'}")
    for line in report.wrong:
        print(f"WRONG {line}")
    return bool(report.wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
