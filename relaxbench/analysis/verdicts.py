"""One row per problem and method: its results over blocks, and how they compare with the baseline and best control."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.paired import LEVEL, MIN_BLOCKS, PairedTest, compare, holm, verdict, wilson
from relaxbench.analysis.pairing import Pairs, at_gradients, at_seconds
from relaxbench.analysis.two_way import two_way
from relaxbench.util.text import counted

VERDICTS = ("better", "worse", "equivalent", "undecided", "no claim")
PREFIXES = ("", "seconds_", "control_", "control_seconds_")
"""Of the columns of a comparison: with the baseline or the best control, at equal gradients or at equal seconds."""

_COMPARISON = ("difference", "low", "high", "p", "p_exact", "p_equivalence", "correlation", "detectable")


@dataclass(frozen=True)
class _Claim:
    """A comparison that a row of the table makes: which columns it fills in, and what it rests on."""

    row: dict[str, Any]
    prefix: str
    pairs: Pairs
    margin: float | None
    obstacle: str


def verdicts(frames: StudyFrames) -> pd.DataFrame:
    """The verdict table.

    Columns: problem, method, their titles, role, metric, unit, censored, margin, decimals (with which to show the
    metric); blocks (complete) of planned; mean and std over blocks of the test metric; against the baseline
    (difference, low, high, p, p_holm, p_exact, p_equivalence, correlation, detectable, probability_better, compared
    blocks, family, verdict and, for "no claim", its reason); the same at equal seconds (``seconds_…``, with
    ``seconds_at``, the seconds of a run); beyond_low and beyond_high, the interval of the difference under new blocks
    *and* new test examples, where right and wrong answers are stored; all of it again against the best control
    (``control_…``, ``control_seconds_…``); gradients, seconds (calibrated alone) and peak_bytes of a run; how many
    explore trials and confirm runs diverged, and how many confirm runs missed a censored metric's tolerance.

    In a repeated (A/A) study ``verdict`` is "repeated": the answer is how often each verdict came up over the
    repetitions (``called_better`` …, and ``called_different``: at equal gradients or at equal seconds, with its rate
    and Wilson interval); differences are then over all blocks together and only describe.

    The best control has the lowest mean validation loss over its confirm runs: test data choose nothing.
    """
    rows = [_describe(frames, problem, method) for problem in frames.problems for method in frames.methods]
    for row in rows:
        control = _best_control(frames, row["problem"])
        row["reference"], row["control"] = frames.baseline, control
        row["reference_title"] = frames.method(frames.baseline)["title"] if frames.baseline else ""
        row["control_title"] = frames.method(control)["title"] if control else ""
    families = {
        "": [row for row in rows if frames.baseline not in (None, row["method"])],
        "control_": [row for row in rows if row["role"] == "candidate" and row["control"]],
    }
    for prefix, family in families.items():
        _judge([claim for row in family for claim in _claims(frames, row, prefix)])
    repeated = _repeat(frames, families[""]) if frames.repetitions > 1 else {}
    for row in rows:
        if row["method"] == frames.baseline:
            row["verdict"] = "baseline"
        elif frames.baseline is None:
            row |= {"verdict": "no claim", "reason": "no baseline"}
        elif frames.repetitions > 1:
            row |= {"verdict": "repeated"} | repeated[row["problem"], row["method"]]
    table = pd.DataFrame(rows, columns=list(dict.fromkeys(key for row in rows for key in row)))
    for prefix in PREFIXES:
        for column in (*_COMPARISON, "p_holm", "probability_better", "compared", "family", "at", "verdict", "reason"):
            if prefix + column not in table and (column != "at" or prefix.endswith("seconds_")):
                table[prefix + column] = None if column in ("verdict", "reason") else np.nan
    for column in ("beyond_low", "beyond_high", "control_beyond_low", "control_beyond_high"):
        table[column] = table[column].astype(float) if column in table else np.nan
    if table.empty:
        return table.assign(decimals=0, seconds_decimals=0)
    table["decimals"] = table.groupby("problem")["std"].transform(_decimals).astype(int)
    # A censored metric is counted in gradients; at equal seconds it is one of seconds.
    timed = (table["std"] * table["seconds"] / table["gradients"]).groupby(table["problem"]).transform(_decimals)
    table["seconds_decimals"] = table["decimals"].where(~table["censored"].astype(bool), timed).astype(int)
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


def _claims(frames: StudyFrames, row: dict[str, Any], prefix: str) -> list[_Claim]:
    """A method against the baseline ("") or the best control ("control_"), at equal gradients and at equal seconds."""
    problem = row["problem"]
    ours = _of(frames.blocks, problem, row["method"])
    theirs = _of(frames.blocks, problem, row["control" if prefix else "reference"])
    row[prefix + "reference_missed"] = _missed(frames, problem, theirs)
    obstacle = _obstacle(frames, problem, ours, theirs)
    timed = at_seconds(frames, problem, ours, theirs)
    row[prefix + "seconds_at"] = timed.seconds
    row |= {prefix + key: value for key, value in _beyond(frames, problem, ours, theirs).items()}
    margin = _margin(frames, problem, ours, theirs)
    return [
        _Claim(row, prefix, at_gradients(ours, theirs), margin, obstacle),
        # The margin is one of the metric; of seconds none was stated.
        _Claim(row, prefix + "seconds_", timed, None if row["censored"] else margin, obstacle or timed.obstacle),
    ]


def _judge(claims: list[_Claim]) -> None:
    """Fill in the comparisons of one family, with Holm's correction over it."""
    level = LEVEL / max(sum(not claim.obstacle for claim in claims), 1)
    found = [_compare(claim, level) for claim in claims]
    judged = [comparison if not claim.obstacle else None for claim, comparison in zip(claims, found, strict=True)]
    adjusted = holm([comparison.p if comparison else np.nan for comparison in judged])
    for claim, shown, comparison, p_holm in zip(claims, found, judged, adjusted, strict=True):
        row, prefix = claim.row, claim.prefix
        row[prefix + "compared"] = len(claim.pairs.table)
        row[prefix + "family"] = int(np.isfinite(adjusted).sum())
        row[prefix + "reason"] = claim.obstacle
        row[prefix + "p_holm"] = float(p_holm)
        if shown:
            row |= {prefix + key: getattr(shown, key) for key in _COMPARISON}
            row[prefix + "probability_better"] = shown.better
        row[prefix + "verdict"] = verdict(comparison, float(p_holm)) if comparison else "no claim"


def _compare(claim: _Claim, level: float) -> PairedTest | None:
    """The comparison over the blocks that both have; None with fewer than two."""
    table = claim.pairs.table
    if len(table) < 2:
        return None
    return compare(table["ours"].to_numpy(), table["theirs"].to_numpy(), claim.margin, level)


def _repeat(frames: StudyFrames, family: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """How often each verdict came up over the repetitions of a study, each judged as a study of its own."""
    called: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    asked = int(frames.spec.get("blocks") or 1)
    for _, part in frames.blocks.groupby("repetition"):
        once = replace(frames, blocks=part)
        size = part.groupby(["problem", "method"]).size()
        whole = [
            row
            for row in family  # an unfinished repetition is not counted
            if min(size.get((row["problem"], method), 0) for method in (row["method"], row["reference"])) >= asked
        ]
        claims = [
            claim for row in whole for claim in _claims(once, dict(row), "")
        ]  # a copy: `row` is the whole study's
        _judge(claims)
        for row in {id(claim.row): claim.row for claim in claims}.values():
            counts = called[row["problem"], row["method"]]
            counts[row["verdict"]] += 1
            counts["different"] += not {"better", "worse"}.isdisjoint((row["verdict"], row["seconds_verdict"]))
    return {(row["problem"], row["method"]): _rate(called[row["problem"], row["method"]]) for row in family}


def _rate(called: Counter[str]) -> dict[str, Any]:
    total, different = sum(called[key] for key in VERDICTS), called["different"]
    low, high = wilson(different, total)
    counts = {"called_" + key.replace(" ", "_"): called[key] for key in VERDICTS}
    rate = different / total if total else np.nan
    return {"repeated": total, "called_different": different, "rate": rate, "rate_low": low, "rate_high": high} | counts


def _beyond(frames: StudyFrames, problem: str, ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, float]:
    """The interval of the difference under new blocks and new test examples; empty where it is not known."""
    both = ours.merge(theirs, on="block", suffixes=("_x", "_y"))
    arms = [[frames.correct.get(run) for run in both[f"confirm_{side}"]] for side in "xy"]
    if len(both) < MIN_BLOCKS or any(run is None for arm in arms for run in arm):
        return {}
    scale = float(frames.problem(problem)["metric_scale"] or 1)
    found = two_way(*(np.stack([run for run in arm if run is not None]) for arm in arms))
    mean = float((both["test_metric_x"] - both["test_metric_y"]).mean())
    if not np.isclose(scale * found.difference, mean, rtol=1e-3, atol=1e-6 * scale):
        return {}  # the metric is not the share of wrong answers: a diverged run's is the worst there is
    return {"beyond_low": scale * found.low, "beyond_high": scale * found.high}


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
