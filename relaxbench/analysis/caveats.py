"""What a reader should know before believing a report: one plain sentence each."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from relaxbench.analysis.frames import StudyFrames, progress
from relaxbench.analysis.paired import MIN_BLOCKS
from relaxbench.analysis.sentences import listed
from relaxbench.space import Choice, Float, Int
from relaxbench.store.schema import SEARCHED
from relaxbench.store.winners import best_rows_so_far

EDGE = 0.05
"""A best value in this outer part of a range asks whether the range was wide enough."""

DIVERGED = 0.2
"""More diverged explore trials than this part of them is worth a warning."""


def missing(frames: StudyFrames) -> list[str]:
    """What an unfinished study lacks; empty for a finished one."""
    if not frames.problems or not frames.methods:
        return ["The study names no problem or no method."]
    counts = progress(frames)
    lacking = counts[counts["done"] < counts["planned"]]
    what = {
        "explore": "explore trials",
        "confirm": "confirmed blocks",
        "exploit": "exploit trials",
        "recommend": "runs of the recommended settings",
    }
    found = []
    for (problem, method), rows in lacking.groupby(["problem", "method"], sort=False):
        parts = [f"{row.done:,} of {row.planned:,} {what[row.phase]}" for row in rows.itertuples()]
        found.append(f"{frames.method(method)['title']} on {problem}: {', '.join(parts)} done.")
    return found


def cautions(frames: StudyFrames, table: pd.DataFrame) -> list[str]:
    """Warnings about what was found.

    Args:
        frames: the study.
        table: its `verdicts`.
    """
    found: list[str] = []
    if frames.baseline is None:
        asked = frames.spec.get("baseline")
        found.append(f"There is no baseline: {f'{asked!r} is not among the methods' if asked else 'none was named'}.")
    for _, row in table.iterrows():
        where = f"{row['title']} on {row['problem']}"
        if row["explored"] and row["diverged"] > DIVERGED * row["explored"]:
            share = f"{row['diverged']:,} of {row['explored']:,} explore trials"
            found.append(f"{where}: {share} diverged, so its search was in effect a smaller one.")
        if row["confirm_diverged"]:
            found.append(f"{where}: {row['confirm_diverged']} confirming runs diverged and count as the worst result.")
        if 0 < row["blocks"] < MIN_BLOCKS:
            found.append(f"{where}: {row['blocks']} complete blocks are too few for a claim (at least {MIN_BLOCKS}).")
        found += [f"{where}: {edge}" for edge in _edges(frames, row["problem"], row["method"])]
    return found + _dimensions(frames)


def _edges(frames: StudyFrames, problem: str, method: str) -> list[str]:
    """Hyperparameters whose best value lies at the edge of their range."""
    trials = frames.trials
    own = (trials["problem"] == problem) & (trials["method"] == method) & (trials["status"] == "done")
    winner = best_rows_so_far(trials[own & trials["phase"].isin(SEARCHED)])
    if winner.empty or winner["diverged"].iloc[0] or winner["value"].isna().iloc[0]:
        return []
    best = winner["params"].iloc[0]
    of = (frames.blocks["problem"] == problem) & (frames.blocks["method"] == method)
    winners = list(frames.blocks.loc[of, "params"])
    found = []
    for name, declared in frames.space(method, problem).items():
        if isinstance(declared, Choice):
            continue
        side = _side(best.get(name), declared)
        if side:
            also = sum(_side(winner.get(name), declared) == side for winner in winners)
            found.append(
                f"the best {name}, {best[name]:.4g}, lies in the {side} 5 % of its range "
                f"{declared.low:g} to {declared.high:g} ({also} of {len(winners)} block winners too)."
            )
    return found


def _side(value: Any, declared: Float | Int) -> str:
    """``"lowest"`` or ``"highest"`` for a value in the outer 5 % of its range (on its own scale), else empty."""
    if not isinstance(value, (int, float)):
        return ""
    low, high, value = float(declared.low), float(declared.high), float(value)
    if isinstance(declared, Float) and declared.log and min(low, value) > 0:
        low, high, value = math.log(low), math.log(high), math.log(value)
    if high <= low:
        return ""
    at = (value - low) / (high - low)
    return "lowest" if at < EDGE else "highest" if at > 1 - EDGE else ""


def _dimensions(frames: StudyFrames) -> list[str]:
    """Methods that search more or fewer dimensions than the baseline."""
    if frames.baseline is None:
        return []
    base = frames.method(frames.baseline)
    usual = base["dimensions"]
    if usual is None:
        return []
    groups: dict[int, list[str]] = {}
    for label in frames.methods:
        about = frames.method(label)
        count = about["dimensions"]
        if count is not None and count != usual:
            groups.setdefault(count, []).append(about["title"])
    return [
        f"{listed(titles)} {'searches' if len(titles) == 1 else 'search'} {count} dimensions, {base['title']} "
        f"{usual}: the same number of trials covers "
        f"{'more dimensions less' if count > usual else 'fewer dimensions more'} densely."
        for count, titles in groups.items()
    ]
