"""One row a problem and method: its results over blocks, and how they compare with the baseline and best control."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from relaxbench.report.frames import StudyFrames
from relaxbench.report.statistics import LEVEL, MIN_BLOCKS, Comparison, compare, holm, verdict, wilson
from relaxbench.words import counted

VERDICTS = ("better", "worse", "equivalent", "undecided", "no claim")
_COMPARISON = ("difference", "low", "high", "p", "p_exact", "p_equivalence", "correlation", "detectable")


def verdicts(frames: StudyFrames) -> pd.DataFrame:
    """The verdict table.

    Columns: problem, method, their titles, role, metric, unit, censored, margin, decimals (with which to show the
    metric); blocks (complete) of planned; mean and std over blocks of the test metric; against the baseline
    (difference, low, high, p, p_holm, p_exact, p_equivalence, correlation, detectable, probability_better, compared
    blocks, family, verdict and, for "no claim", its reason) and the same against the best control (``control_…``);
    gradients, seconds (calibrated alone) and peak_bytes of a run; how many explore trials and confirm runs diverged,
    and how many confirm runs missed a censored metric's tolerance.

    In a repeated (A/A) study ``verdict`` is "repeated": the answer is how often each verdict came up over the
    repetitions (``called_better`` …, ``called_different`` with its rate and Wilson interval); differences are then
    over all blocks together and only describe.

    The best control has the lowest mean validation loss over its confirm runs: test data choose nothing.
    """
    rows = [_describe(frames, problem, method) for problem in frames.problems for method in frames.methods]
    pairs: dict[str, list[tuple[dict[str, Any], str]]] = {"": [], "control_": []}
    for row in rows:
        reference, control = frames.baseline, _best_control(frames, row["problem"])
        row["reference"] = reference
        row["reference_title"] = frames.method(reference)["title"] if reference else ""
        row["control"] = control
        row["control_title"] = frames.method(control)["title"] if control else ""
        if row["method"] != reference and reference:
            pairs[""].append((row, reference))
        if row["role"] == "candidate" and control:
            pairs["control_"].append((row, control))
    for prefix, family in pairs.items():
        _judge(frames, family, prefix)
    repeated = _repeat(frames) if frames.repetitions > 1 else {}
    for row in rows:
        if row["method"] == frames.baseline:
            row["verdict"] = "baseline"
        elif frames.baseline is None:
            row |= {"verdict": "no claim", "reason": "no baseline"}
        elif frames.repetitions > 1:
            row |= {"verdict": "repeated"} | repeated[row["problem"], row["method"]]
    table = pd.DataFrame(rows, columns=list(dict.fromkeys(key for row in rows for key in row)))
    for key in ("", "control_"):
        for column in (*_COMPARISON, "p_holm", "probability_better", "compared", "family", "verdict", "reason"):
            if key + column not in table:
                table[key + column] = None if column in ("verdict", "reason") else np.nan
    table["decimals"] = table.groupby("problem")["std"].transform(_decimals).astype(int) if len(table) else 0
    return table


def _describe(frames: StudyFrames, problem: str, method: str) -> dict[str, Any]:
    """A method's own results, compared with nothing."""
    about, how = frames.problem(problem), frames.method(method)
    blocks = _of(frames.blocks, problem, method)
    searched = _of(frames.trials, problem, method)
    searched = searched[(searched["phase"] == "explore") & (searched["status"] == "done")]
    metric = blocks["test_metric"]
    return {
        "problem": problem,
        "problem_title": about["title"],
        "method": method,
        "title": how["title"],
        "role": how["role"],
        "metric": about["metric"],
        "unit": about["unit"],
        "censored": bool(about["censored"]),
        "budget": about["budget"],
        "margin": frames.margin(problem),
        "repetitions": frames.repetitions,
        "blocks": len(blocks),
        "planned": int(frames.spec.get("blocks") or 0) * frames.repetitions,
        "mean": float(metric.mean()),
        "std": float(metric.std(ddof=1)),
        "gradients": float(blocks["gradients"].mean()),
        "seconds": float(blocks["seconds"].mean()),
        "peak_bytes": frames.cost(method, problem, "peak_bytes"),
        "explored": len(searched),
        "diverged": int(searched["diverged"].sum()),
        "confirm_diverged": int(blocks["diverged"].sum()),
        "missed": _missed(frames, problem, blocks),
    }


def _judge(frames: StudyFrames, family: list[tuple[dict[str, Any], str]], prefix: str) -> None:
    """Fill in the comparisons of one family, with Holm's correction over it."""
    found: list[tuple[dict[str, Any], Comparison | None, str]] = []
    level = LEVEL / max(len(family), 1)
    for row, reference in family:
        ours = _of(frames.blocks, row["problem"], row["method"])
        theirs = _of(frames.blocks, row["problem"], reference)
        reason = _obstacle(frames, row["problem"], ours, theirs)
        comparison = _paired(ours, theirs, _margin(frames, row["problem"], ours, theirs), level)
        row[prefix + "compared"] = comparison.n if comparison else len(set(ours["block"]) & set(theirs["block"]))
        row[prefix + "reference_missed"] = _missed(frames, row["problem"], theirs)
        found.append((row, comparison, reason))
    adjusted = holm([np.nan if reason or not comparison else comparison.p for _, comparison, reason in found])
    for (row, comparison, reason), p_holm in zip(found, adjusted, strict=True):
        row[prefix + "family"] = int(np.isfinite(adjusted).sum())
        row[prefix + "reason"] = reason
        row[prefix + "p_holm"] = float(p_holm)
        if comparison:
            row |= {prefix + key: getattr(comparison, key) for key in _COMPARISON}
            row[prefix + "probability_better"] = comparison.better
        row[prefix + "verdict"] = "no claim" if reason or not comparison else verdict(comparison, float(p_holm))


def _repeat(frames: StudyFrames) -> dict[tuple[str, str], dict[str, Any]]:
    """How often each verdict came up over the repetitions of a study, each judged as a study of its own."""
    called: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    asked = int(frames.spec.get("blocks") or 1)
    parts = dict(tuple(frames.blocks.groupby("repetition")))
    for part in parts.values():
        once = replace(frames, blocks=part)
        family: list[tuple[str, str, Comparison | None]] = []
        for problem in frames.problems:
            theirs = _of(part, problem, str(frames.baseline))
            for method in frames.methods:
                ours = _of(part, problem, method)
                if method == frames.baseline or min(len(ours), len(theirs)) < asked:
                    continue  # an unfinished repetition is not counted
                blocked = _obstacle(once, problem, ours, theirs)
                found = None if blocked else _paired(ours, theirs, _margin(once, problem, ours, theirs), LEVEL)
                family.append((problem, method, found))
        adjusted = holm([found.p if found else np.nan for *_, found in family])
        for (problem, method, found), p_holm in zip(family, adjusted, strict=True):
            called[problem, method][verdict(found, float(p_holm)) if found else "no claim"] += 1
    return {(where, method): _rate(called[where, method]) for where in frames.problems for method in frames.methods}


def _rate(called: Counter[str]) -> dict[str, Any]:
    total, different = called.total(), called["better"] + called["worse"]
    low, high = wilson(different, total)
    counts = {"called_" + key.replace(" ", "_"): called[key] for key in VERDICTS}
    rate = different / total if total else np.nan
    return {"repeated": total, "called_different": different, "rate": rate, "rate_low": low, "rate_high": high} | counts


def _paired(ours: pd.DataFrame, theirs: pd.DataFrame, margin: float | None, level: float) -> Comparison | None:
    """The comparison over the blocks that both have; None with fewer than two."""
    both = ours[["block", "test_metric"]].merge(theirs[["block", "test_metric"]], on="block").dropna()
    if len(both) < 2:
        return None
    return compare(both["test_metric_x"].to_numpy(), both["test_metric_y"].to_numpy(), margin, level)


def _margin(frames: StudyFrames, problem: str, ours: pd.DataFrame, theirs: pd.DataFrame) -> float | None:
    """The margin of equivalence; None where a block missed the tolerance on both sides.

    Such a block says "equal" only because both runs stopped at the budget: it is no evidence of equivalence.
    """
    both = ours.merge(theirs, on="block")
    missed = [_missed_rows(frames, problem, both[f"test_metric_{side}"]) for side in "xy"]
    return None if (missed[0] & missed[1]).any() else frames.margin(problem)


def _obstacle(frames: StudyFrames, problem: str, ours: pd.DataFrame, theirs: pd.DataFrame) -> str:
    """Why no claim can be made, in a few words; empty where one can."""
    common = set(ours["block"]) & set(theirs["block"])
    if not len(ours):
        return "no complete block yet"
    if not len(theirs):
        return "the reference has no complete block yet"
    if len(common) < MIN_BLOCKS:
        return f"{counted(len(common), 'complete block')}, at least {MIN_BLOCKS} are needed"
    if ours["diverged"].all() or theirs["diverged"].all():
        return "every confirming run diverged" + ("" if ours["diverged"].all() else " in the reference")
    if _missed(frames, problem, ours) == len(ours) and _missed(frames, problem, theirs) == len(theirs):
        return "no run of either reached the tolerance"
    return ""


def _best_control(frames: StudyFrames, problem: str) -> str | None:
    """The control of lowest mean validation loss (capped, as stored) over its confirm runs, if any has one."""
    controls = [method for method in frames.methods if frames.method(method)["role"] == "control"]
    losses = {method: _of(frames.blocks, problem, method)["value"].mean() for method in controls}
    losses = {method: loss for method, loss in losses.items() if np.isfinite(loss)}
    return min(losses, key=losses.__getitem__) if losses else None


def _missed(frames: StudyFrames, problem: str, blocks: pd.DataFrame) -> int:
    """Confirm runs that did not reach a censored metric's tolerance within the budget."""
    return int(_missed_rows(frames, problem, blocks["test_metric"]).sum())


def _missed_rows(frames: StudyFrames, problem: str, metric: pd.Series) -> pd.Series:
    about = frames.problem(problem)
    if not about["censored"] or not about["budget"]:
        return pd.Series(False, index=metric.index)
    return metric >= about["budget"] * float(about["metric_scale"] or 1)


def _of(frame: pd.DataFrame, problem: str, method: str, repetition: int | None = None) -> pd.DataFrame:
    rows = frame[(frame["problem"] == problem) & (frame["method"] == method)]
    return rows if repetition is None else rows[rows["repetition"] == repetition]


def _decimals(spreads: pd.Series) -> int:
    """Decimals that show two digits of the smallest spread over methods, unless it is far below the typical one."""
    positive = spreads[spreads > 0]
    if positive.empty:
        return 2
    spread = max(float(positive.min()), float(positive.median()) / 10)
    return int(min(max(1 - math.floor(math.log10(spread)), 0), 6))
