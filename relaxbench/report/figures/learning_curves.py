"""Learning curves: one panel per method, with the method that it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from relaxbench.analysis.counted_curves import counted
from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.log_scale import smallest_positive
from relaxbench.analysis.winsorized import winsorized
from relaxbench.pages.figure import Drawing, Figure
from relaxbench.pages.theme import INK, KEY, Look, axis, band, file_name, key_above, layout, log_axis, plain, tint

GRID = 80
"""Number of points of a band along the budget."""


def bands(frames: StudyFrames, problem: str, measure: str) -> pd.DataFrame:
    """Return learning curves of the confirm runs: method, gradients, level, mean, median, low, high (quartiles), runs.

    The level is that of the verdicts: the geometric mean, in which rare disasters count less. A 0 counts as the
    smallest value above 0 of the problem; a measure with negative values has the mean.

    Runs are measured at different points (after complete outer steps), so each is interpolated to one grid, which
    begins where all runs of the method have been measured. After its last measurement a run keeps its last value; that
    of a diverged run is the problem's worst one, as in the study.

    Args:
        frames: the study.
        problem: the problem's name.
        measure: ``"validation_loss"`` or ``"validation_metric"``.
    """
    about = frames.problem(problem)
    worst = about["worst"]
    if measure == "validation_metric":
        worst = None if about["worst_metric"] is None else about["worst_metric"] * float(about["metric_scale"] or 1)
    ids = frames.blocks.loc[frames.blocks["problem"] == problem, "confirm"].dropna()
    runs = frames.curves[frames.curves["trial_id"].isin(ids)]
    columns = ["method", "gradients", "level", "mean", "median", "low", "high", "runs"]
    if runs.empty:
        return pd.DataFrame(columns=columns)
    grid = np.linspace(float(runs["gradients"].min()), float(runs["gradients"].max()), GRID)
    runs = runs.assign(counted=counted(frames, runs, measure, np.inf if worst is None else worst))
    floor = smallest_positive(runs[measure])
    positive = np.isfinite(floor)
    parts = []
    for method in frames.methods:
        values = []
        for _, run in runs[runs["method"] == method].groupby("trial_id", sort=False):
            y = run["counted"].to_numpy(dtype=float)
            y = np.maximum(y, floor) if positive else y
            x = run["gradients"].to_numpy(dtype=float)
            values.append(np.interp(grid, x, y, left=np.nan))
        if not values:
            continue
        table = np.stack(values)
        complete = np.isfinite(table).all(axis=0)  # a median over some of the runs would mislead
        if not complete.any():
            continue
        table = table[:, complete]
        low, median, high = np.quantile(table, [0.25, 0.5, 0.75], axis=0)
        mean = np.mean(table, axis=0)
        level = np.exp(winsorized(np.log(table.T)).mean(axis=1)) if positive else mean
        part = {"gradients": grid[complete], "level": level, "mean": mean, "median": median, "low": low, "high": high}
        parts.append(pd.DataFrame(part).assign(method=method, runs=len(table)))
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def scales(frames: StudyFrames, problem: str) -> pd.DataFrame:
    """Return the seconds (calibrated alone) and epochs of one gradient per method; NaN where they are not known.

    Epochs count training examples, so two gradients on the same mini-batch (as in SAM) count it once.
    """
    examples = frames.problem(problem)["train_examples"]
    rows = frames.blocks[frames.blocks["problem"] == problem]
    seen = rows.groupby("method")[["examples", "gradients"]].sum().reindex(frames.methods)
    return pd.DataFrame(
        {
            "seconds": [frames.cost(method, problem, "seconds_per_gradient") for method in frames.methods],
            "epochs": (seen["examples"] / seen["gradients"] / (examples or np.nan)).to_numpy(dtype=float),
        },
        index=frames.methods,
    )


def curves(views: Mapping[str, pd.DataFrame], scales: pd.DataFrame, look: Look, problem: str) -> list[Figure]:
    """Draw one panel per method: the level and the middle half of its runs, and of the one that it is compared with.

    Args:
        views: label of a measure, e.g. "validation loss" → frame of `bands`; the first is shown first.
        scales: frame of `scales`, the alternatives to gradients on the horizontal axis.
        look: titles and colours.
        problem: its name.
    """
    frames = list(views.values())
    present = [method for method in look.titles if any(method in set(frame["method"]) for frame in frames)]
    panels = [method for method in present if method != look.baseline] or present
    ends = pd.concat(frames).groupby("method")["gradients"].max()
    known = scales.loc[present].assign(gradients=1.0)
    axes = {label: known[label] for label in ("gradients", "seconds", "epochs") if known[label].notna().all()}
    limits = {label: float((ends * factors).max()) for label, factors in axes.items()}
    return [_panel(views, axes, limits, look, problem, method) for method in panels]


def _panel(
    views: Mapping[str, pd.DataFrame],
    axes: Mapping[str, pd.Series],
    limits: Mapping[str, float],
    look: Look,
    problem: str,
    method: str,
) -> Figure:
    figure, layouts = Drawing(), dict[str, dict[str, Any]]()
    owners: list[tuple[str, str]] = []  # of the traces: measure and method
    base = look.opponent(method)
    for label, frame in views.items():
        if base is not None and base in set(frame["method"]):
            reference = frame[frame["method"] == base]
            figure.add("scatter", **_band(reference, INK))
            figure.add("scatter", **_line(reference, "level", INK, f"tuned {look.title(base)}", "dot"))
            owners += 2 * [(label, base)]
        if method != look.baseline:
            own, colour = frame[frame["method"] == method], look.colours[method]
            figure.add("scatter", **_band(own, colour))
            figure.add("scatter", **_line(own, "level", colour, look.title(method)))
            owners += 2 * [(label, method)]
        layouts[label] = {"yaxis.title.text": plain(label, 60)} | _range(frame)
    switch = {
        label: {"visible": [owner == label for owner, _ in owners], "layout": layout}
        for label, layout in layouts.items()
    }
    along = {
        label: {
            "scale": [float(factors[owner]) for _, owner in owners],
            "layout": _along(label, limits),
        }
        for label, factors in axes.items()
    }
    figure.update_layout(
        layout(
            height=270,
            xaxis=axis("gradients"),
            yaxis=axis(""),
            hovermode="x unified",
            annotations=[_key(look, method)],
            margin={"l": 58, "r": 8, "t": 28, "b": 42},
        )
    )
    first = next(iter(views))
    figure.update_layout({**layouts[first], **_along("gradients", limits)})
    for trace, visible in zip(figure.data, switch[first]["visible"], strict=True):
        trace["visible"] = visible
    parts = [frame[frame["method"].isin([method, base])].assign(measure=label) for label, frame in views.items()]
    data = pd.concat(parts, ignore_index=True)
    for label, factors in axes.items():
        data[label] = data["gradients"] * data["method"].map(factors).astype(float)
    runs = int(next(iter(views.values())).query("method == @method")["runs"].max())
    beside = f", beside tuned {look.titles[base]}" if base is not None and base != method else ""
    return Figure(
        f"curve-{file_name(problem)}-{file_name(method)}",
        look.titles[method],
        f"{look.titles[method]}: {runs} confirming runs over gradients{beside}.",
        figure,
        switch,
        data,
        along,
    )


def _along(label: str, limits: Mapping[str, float]) -> dict[str, Any]:
    return {"xaxis.title.text": label, "xaxis.range": [0, limits[label]]}


def _key(look: Look, method: str) -> dict[str, Any]:
    """The key of a panel's lines."""
    words = f"<span style='color:{look.colours[method]}'>━</span> {plain(look.titles[method], KEY)}"
    base = look.opponent(method)
    if base:
        dotted = f"<span style='color:{INK}'>┅</span> tuned {look.title(base)}"
        words = dotted if method == look.baseline else f"{words}   {dotted}"
    return key_above(words)


def _line(frame: pd.DataFrame, column: str, colour: str, name: str, dash: str = "solid") -> dict[str, Any]:
    x, y = (frame[key].to_numpy(dtype=np.float32) for key in ("gradients", column))
    line = {"color": colour, "width": 2, "dash": dash}
    return {"x": x, "y": y, "mode": "lines", "name": name, "line": line, "hovertemplate": "%{y:.4~g}"}


def _band(frame: pd.DataFrame, colour: str) -> dict[str, Any]:
    """The middle half as a filled outline."""
    x, low, high = (frame[key].to_numpy(dtype=np.float32) for key in ("gradients", "low", "high"))
    return band(x, low, high, tint(colour, 0.18))


def _range(frame: pd.DataFrame) -> dict[str, Any]:
    """The vertical axis, the same for every panel, so that heights are comparable."""
    low, high = float(frame[["low", "level"]].min(axis=None)), float(frame[["high", "level"]].max(axis=None))
    if not (np.isfinite(low) and np.isfinite(high)):
        axis = {"type": "linear", "tickmode": "auto", "autorange": True}
    elif low > 0:
        pad = 0.05 * np.log10(high / low) or 0.1
        axis = log_axis(low, high) | {"range": [np.log10(low) - pad, np.log10(high) + pad]}
    else:
        pad = 0.05 * (high - low) or 0.5
        axis = {"type": "linear", "tickmode": "auto", "range": [low - pad, high + pad]}
    return {f"yaxis.{key}": value for key, value in axis.items()}
