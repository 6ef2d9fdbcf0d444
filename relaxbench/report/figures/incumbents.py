"""The course of the tuning: the best validation loss so far over the cost of the search."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from relaxbench.analysis.frames import StudyFrames
from relaxbench.pages.figure import Drawing, Figure
from relaxbench.pages.theme import INK, Look, axis, band, file_name, layout, tint
from relaxbench.report.figures.search_space import LOSS, Reference, Scale, Vector, loss_scale, reference_lines

COLUMNS = [
    "method",
    "phase",
    "trials",
    "gradients",
    "median",
    "low",
    "high",
    "blocks",
    "diverged",
    "failed",
    "pruned",
]

VIEWS = {"explore": "in blocks", "exploit": "TPE"}
"""The searches and their titles; their trials are never mixed."""

MAX_BANDS = 6
"""Most methods whose middle half is drawn; the bands of more hide each other and the lines."""

SLACK = 1e-9
"""Rounding of a sum of bills, relative to it."""

FINAL = ("done", "failed", "pruned")
"""Statuses of a trial that do not change any more."""


def incumbents(frames: StudyFrames, problem: str) -> pd.DataFrame:
    """Return the best value so far after every trial: one row per method, phase and number of trials.

    Explore trials belong to independent tunings, one per block: median, low and high are the quartiles over complete
    blocks. TPE's trials are one search, in the order of their generations, up to the first unfinished trial: low
    and high equal its median. Only finished trials lower the best value; failed and pruned ones cost their budget too.
    diverged, failed and pruned count the trials so far over all blocks. gradients is trials times the problem's budget
    (NaN where the study states none). With a pruner a row is not a trial, but a whole trial's worth of gradients.
    """
    budget = frames.problem(problem)["budget"]
    parts = [pd.DataFrame(columns=COLUMNS)]
    for (method, phase), trials in _searches(frames, problem):
        ordered = trials.sort_values(["block", "number"])
        size = int(frames.spec.get("trials") or 1)
        if phase == "explore" and (whole := frames.pruned_budget(method, problem)) is not None:
            complete = frames.blocks[(frames.blocks["problem"] == problem) & (frames.blocks["method"] == method)]
            runs = [run for block, run in ordered.groupby("block") if block in set(complete["block"])]
            if runs:
                part = _paid(runs, whole * np.arange(1, size + 1, dtype=float))
                parts.append(part.assign(method=method, phase=phase, gradients=part["trials"] * float(whole))[COLUMNS])
            continue
        if phase == "explore":
            runs = [run for _, run in ordered.groupby("block") if len(run) >= size and run["status"].isin(FINAL).all()]
        else:
            runs = [ordered[ordered["status"].isin(FINAL).cummin()]]
        length = min(map(len, runs), default=0)
        if length:
            part = _curve([run.head(length) for run in runs])
            part["gradients"] = part["trials"] * (float(budget) if budget else np.nan)
            parts.append(part.assign(method=method, phase=phase)[COLUMNS])
    return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)


def _searches(frames: StudyFrames, problem: str) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """The trials of every search, methods in the order of the study."""
    trials = frames.trials[frames.trials["problem"] == problem]
    groups = dict(list(trials.groupby(["method", "phase"])))
    keys = [(method, phase) for phase in VIEWS for method in frames.methods]
    return [(key, groups[key]) for key in keys if key in groups]


def _curve(runs: list[pd.DataFrame]) -> pd.DataFrame:
    """One curve from searches of equal length: their running best, and counts of diverged, failed and pruned trials."""
    length = len(runs[0])
    return _curve_of(runs, [np.triu(np.ones((length, length), dtype=bool)) for _ in runs])


def _paid(runs: list[pd.DataFrame], gradients: Vector) -> pd.DataFrame:
    """One curve from searches of any length: what so many gradients have paid for, instead of so many trials.

    With a pruner, a row of the curve is a whole trial's worth of gradients.
    """
    bills = [run["gradients"].cumsum().to_numpy(float)[:, None] for run in runs]
    return _curve_of(runs, [bill <= gradients * (1 + SLACK) for bill in bills])


def _curve_of(runs: list[pd.DataFrame], known: list[NDArray[np.bool_]]) -> pd.DataFrame:
    """One curve over points at each of which some trials of every search are known, ``[trials, points]``."""
    values = [np.where(run["status"] == "done", run["value"], np.inf)[:, None] for run in runs]
    best = np.stack([np.where(at, value, np.inf).min(axis=0) for value, at in zip(values, known, strict=True)])
    best = np.where(np.isfinite(best), best, np.nan)  # before the first finished trial there is no best
    low, median, high = np.quantile(best, [0.25, 0.5, 0.75], axis=0)

    def count(column: str, value: object) -> Vector:
        events = [(run[column].to_numpy() == value)[:, None] for run in runs]
        return np.asarray(sum((at & event).sum(axis=0) for event, at in zip(events, known, strict=True)))

    return pd.DataFrame(
        {
            "trials": np.arange(1, best.shape[1] + 1),
            "median": median,
            "low": low,
            "high": high,
            "blocks": len(runs),
            "diverged": count("diverged", True),
            "failed": count("status", "failed"),
            "pruned": count("status", "pruned"),
        }
    )


def history(frame: pd.DataFrame, look: Look, problem: str, baseline: Reference | None) -> Figure | None:
    """Draw the incumbent curves of all methods, with a switch for blocks and TPE (a frame of `incumbents`)."""
    known = frame[np.isfinite(frame["median"].astype(float))]
    if known.empty:
        return None
    cost = "gradients" if known["gradients"].notna().all() else "trials"
    # The start of a search is luck and may be the problem's worst value; the scale leaves it out.
    loss = loss_scale(known["median"].to_numpy(float), baseline)
    figure, owners, views = Drawing(), [], {}
    bands = known["method"].nunique() <= MAX_BANDS
    for phase, label in VIEWS.items():
        part = known[known["phase"] == phase]
        if part.empty:
            continue
        for method, rows in part.groupby("method", sort=False):
            traces = _draw(figure, rows, cost, look, str(method), bands)
            owners += [label] * traces
        first, last = float(part[cost].min()), float(part[cost].max())
        across = Scale.number(cost, first, last, log=last > 10 * first).axis(_title(cost, phase))
        views[label] = {
            f"xaxis.{key}": value for key, value in across.items() if key in ("type", "range", "tickvals", "ticktext")
        } | {"xaxis.tickmode": across["tickmode"], "xaxis.title.text": across["title"]["text"]}
    switch = {label: {"visible": [owner == label for owner in owners], "layout": view} for label, view in views.items()}
    first_view = next(iter(views))
    for trace, owner in zip(figure.data, owners, strict=True):
        trace["visible"] = owner == first_view
    figure.update_layout(
        layout(
            height=400,
            xaxis=axis(""),
            yaxis=loss.axis(f"best {LOSS} so far"),
            hovermode="x unified",
            shapes=reference_lines(baseline, loss),
            legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"color": INK, "size": 12}},
            margin={"l": 8, "r": 8, "t": 34, "b": 48},
        )
    )
    figure.update_layout(views[first_view])
    line = (
        f" The dotted line is the level of tuned {look.titles[str(look.baseline)]}'s confirming runs with its 95 % "
        "interval: winners that are run again on fresh seeds fall back to it."
        if baseline
        else ""
    )
    return Figure(
        f"history-{file_name(problem)}",
        "Course of the tuning",
        " ".join(_reading(phase, bands) for phase, label in VIEWS.items() if label in views) + line,
        figure,
        switch if len(switch) > 1 else {},
        frame,
    )


def _reading(phase: str, bands: bool) -> str:
    """What the figure says of a search that it shows."""
    if phase == "exploit":
        return "TPE: a single search beside the blocks, which does not affect verdicts."
    half = ", with their middle half" if bands else " (their middle half is in the CSV file)"
    return f"In blocks: median over blocks, which are independent tunings{half}."


def _title(cost: str, phase: str) -> str:
    return f"{cost} spent in {'a block' if phase == 'explore' else 'the search'}"


def _draw(figure: Drawing, rows: pd.DataFrame, cost: str, look: Look, method: str, bands: bool) -> int:
    """Add a method's curve, its band if wanted, and its pruned trials. Return the number of traces."""
    before, colour, title = len(figure.data), look.colours[method], look.title(method)
    x = rows[cost].to_numpy(np.float32)
    low, median, high = (rows[key].to_numpy(np.float32) for key in ("low", "median", "high"))
    if bands and (low < high).any():
        figure.add("scatter", **band(x, low, high, tint(colour, 0.12)))
    figure.add(
        "scatter",
        x=x,
        y=median,
        mode="lines" if len(x) > 1 else "markers",
        name=title,
        line={"color": colour, "width": 2, "dash": look.dash(method)},
        marker={"color": colour, "size": 8, "symbol": look.symbol(method)},
        hovertemplate="%{y:.4~g}",
    )
    censored = np.diff(rows["pruned"].to_numpy(int), prepend=0) > 0
    if censored.any():
        figure.add(
            "scatter",
            x=x[censored],
            y=median[censored],
            mode="markers",
            name=f"{title}, pruned",
            showlegend=False,
            marker={"color": colour, "size": 9, "symbol": "line-ns-open"},
            hoverinfo="skip",
        )
    return len(figure.data) - before
