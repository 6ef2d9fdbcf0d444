"""What the page shows of every problem, section by section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from relaxbench.report import collect, figures
from relaxbench.report.cost import costs, relative
from relaxbench.report.curves import curves
from relaxbench.report.figures import Figure
from relaxbench.report.frames import StudyFrames
from relaxbench.report.headline import headline
from relaxbench.report.look import Look
from relaxbench.report.sharpness import sharpness
from relaxbench.report.theorem import Theorem, expectation, measured


def problems(
    frames: StudyFrames, table: pd.DataFrame, look: Look, theory: Mapping[str, Theorem]
) -> list[dict[str, Any]]:
    """All that the page shows, a dict a problem; ``table`` is the study's `verdicts`."""
    return [_problem(frames, table, look, name, theory.get(name)) for name in frames.problems]


def _problem(
    frames: StudyFrames, table: pd.DataFrame, look: Look, name: str, theorem: Theorem | None
) -> dict[str, Any]:
    rows = table[table["problem"] == name]
    cost = costs(frames, name)
    return {
        "name": name,
        "about": frames.problem(name),
        "rows": rows.to_dict("records"),
        "headline": headline(rows, look),
        "results": [] if frames.repetitions > 1 else _results(frames, rows, look, name),
        "curves": _curves(frames, look, name),
        "budget": [],
        "why": _schedules(frames, look, name),
        "search": _some(figures.search(collect.searched(frames, name), look, name)),
        "costs": cost.to_dict("records"),
        "cost": _some(relative(cost, look, name)),
        "theory": [expectation(theorem, measured(frames, name), look, name)] if theorem else [],
        "flatness": _some(_flatness(frames, look, name)),
        "recommended": _recommended(frames, rows, name),
    }


def _results(frames: StudyFrames, rows: pd.DataFrame, look: Look, name: str) -> list[Figure]:
    about, values = frames.problem(name), collect.results(frames, name)
    unit = "points" if about["unit"] == "%" else str(about["unit"])
    return _some(
        figures.forest(rows, look, name, unit),
        figures.dots(values, collect.means(values), look, name, str(about["metric"]), str(about["unit"])),
    )


def _curves(frames: StudyFrames, look: Look, name: str) -> list[Figure]:
    about = frames.problem(name)
    views = {"validation loss": collect.bands(frames, name, "validation_loss")}
    if not about["censored"]:  # gradients to a tolerance have no curve
        unit = f" ({about['unit']})" if about["unit"] else ""
        metric = str(about["metric"]).replace("test", "validation") + unit
        views[metric] = collect.bands(frames, name, "validation_metric")
    views = {label: frame for label, frame in views.items() if len(frame)}
    return curves(views, collect.scales(frames, name), look, name) if views else []


def _schedules(frames: StudyFrames, look: Look, name: str) -> list[Figure]:
    return _some(*(
        figures.schedules(collect.schedules(frames, name, method), look, name, method, str(scope))
        for method in frames.methods
        if (scope := frames.method(method)["scope"])
    ))  # fmt: skip


def _flatness(frames: StudyFrames, look: Look, name: str) -> Figure | None:
    about = frames.problem(name)
    if about["censored"]:  # gradients to a tolerance do not generalize
        return None
    return sharpness(collect.confirmed_flatness(frames, name), look, name, str(about["metric"]), str(about["unit"]))


def _recommended(frames: StudyFrames, rows: pd.DataFrame, name: str) -> list[dict[str, Any]]:
    """The best setting of each method with its results on fresh seeds."""
    found = []
    for _, row in rows.iterrows():
        of = (frames.recommended["problem"] == name) & (frames.recommended["method"] == row["method"])
        runs = frames.recommended[of]
        if len(runs):
            first = runs.iloc[0]
            found.append({
                "title": row["title"], "params": first["params"], "trial": int(first["source"]),
                "phase": first["source_phase"], "value": float(first["source_value"]), "runs": len(runs),
                "mean": float(runs["test_metric"].mean()), "std": float(runs["test_metric"].std(ddof=1)),
                "decimals": int(row["decimals"]), "unit": row["unit"], "metric": row["metric"],
            })  # fmt: skip
    return found


def _some(*found: Figure | None) -> list[Figure]:
    return [figure for figure in found if figure is not None]
