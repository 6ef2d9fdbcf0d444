"""All that a report says, recomputed from the files beside it, without a line of relaxbench.

``python tests/report/recompute.py reports/digits.html`` prints what agrees and exits with 1 where something does not.
docs/statistics.md says how things are computed; here scipy does it, or a plain loop.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from recompute_claims import PREFIXES, judged, power
from recompute_figures import check_figures
from recompute_read import Report
from recompute_words import check_words
from scipy import stats

Claims = dict[tuple[str, str, str], dict[str, Any]]
"""Comparisons by problem, method and prefix."""


def check_blocks(report: Report) -> None:
    """Every block's winner is its best explore trial, and its result that of the winner's run on a fresh seed."""
    trials = report.trials.set_index("id")
    for row in report.blocks.itertuples():
        tried = report.tried(row.problem, row.method)
        tried = tried[tried["block"] == row.block].sort_values(["value", "number"])
        report.check("blocks: winner", [row.winner, row.winner_value], tried[["id", "value"]].iloc[0])
        confirm = trials.loc[row.confirm]
        report.check("blocks: parent", confirm["parent"], row.winner)
        report.check("blocks: phase", confirm["phase"], "confirm")
        report.check("blocks: result", [row.test_metric, row.value], confirm[["test_metric", "value"]].astype(float))
    for (problem, method), runs in report.recommended.groupby(["problem", "method"]):
        best = pd.concat([report.tried(problem, method, phase) for phase in ("explore", "exploit")])
        report.check("recommended: value", runs["source_value"], np.full(len(runs), best["value"].min()))
        report.check("recommended: parent", trials.loc[runs["id"], "parent"], runs["source"])
    confirmed = report.flatness[report.flatness["phase"] == "confirm"]
    known = report.blocks.set_index("confirm")["test_metric"]
    report.check("flatness: metric", confirmed["test_metric"], known.reindex(confirmed["trial_id"]))


def check_verdicts(report: Report) -> Claims:
    """The verdict table; returns all comparisons."""
    every, rows = sorted(set(report.blocks["block"])), list(report.rows.values())
    for row in rows:
        own = report.of(row["problem"], row["method"])
        report.check("verdicts: mean", [row["mean"], row["std"]], [own["test_metric"].mean(), own["test_metric"].std()])
        cost = own[["gradients", "seconds"]].mean()
        report.check("verdicts: cost", [row["gradients"], row["seconds"], row["blocks"]], [*cost, len(own)])
        losses = {
            name: report.of(problem, name)["value"].mean()
            for (problem, name), each in report.rows.items()
            if problem == row["problem"] and each["role"] == "control"
        }
        losses = {name: loss for name, loss in losses.items() if loss == loss}
        report.check(
            "verdicts: best control",
            row["control"] if row["control"] == row["control"] else "",
            min(losses, key=losses.__getitem__) if losses else "",
        )
    against = [row for row in rows if row["reference"] == row["reference"] and row["method"] != row["reference"]]
    found = judged(report, against, False, every)
    known = [row for row in rows if row["role"] == "candidate" and row["control"] == row["control"]]
    found |= judged(report, known, True, every)
    for (problem, method, prefix), result in found.items():
        row = report.rows[problem, method]
        if not prefix and row["repetitions"] > 1:
            continue
        report.check(f"verdicts: {prefix}verdict", row[prefix + "verdict"], result["verdict"])
        if not result["sound"]:
            continue
        for key in result.keys() - {"sound", "spread", "verdict", "p_exact"}:
            report.check(f"verdicts: {prefix}{key} of {method}", row[prefix + key], result[key])
        # Beyond 15 blocks both draw signs at random.
        report.check(
            "verdicts: p_exact",
            row[prefix + "p_exact"],
            result["p_exact"],
            relative=1e-5 if result["compared"] <= 15 else 0.1,
        )
        if result["spread"] > 1e-12:
            report.check("verdicts: power", power(result, row[prefix + "detectable"]), 0.8)
    check_repetitions(report, against)
    return found


def check_repetitions(report: Report, rows: list[Any]) -> None:
    """Of a repeated study: how often each verdict came up."""
    if not rows or rows[0]["repetitions"] == 1:
        return
    called = {(row["problem"], row["method"]): Counter[str]() for row in rows}
    for _, part in report.blocks.groupby("repetition"):
        blocks = sorted(set(part["block"]))
        size, asked = part.groupby(["problem", "method"]).size(), rows[0]["planned"] // rows[0]["repetitions"]
        whole = [
            row
            for row in rows
            if min(size.get((row["problem"], row[side]), 0) for side in ("method", "reference")) >= asked
        ]
        found = judged(report, whole, False, blocks)
        for row in whole:
            words = [found[row["problem"], row["method"], prefix]["verdict"] for prefix in PREFIXES[:2]]
            called[row["problem"], row["method"]].update(
                [words[0], "repeated", *["different"] * bool({*words} & {"better", "worse"})]
            )
    for row in rows:
        told = [row["repeated"], row["called_different"], row["called_better"], row["called_worse"]]
        counts = called[row["problem"], row["method"]]
        report.check("repetitions", told, [counts[key] for key in ("repeated", "different", "better", "worse")])
        if counts["repeated"]:
            rate = stats.binomtest(counts["different"], counts["repeated"]).proportion_ci(method="wilson")
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
