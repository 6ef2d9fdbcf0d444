"""The best of n random trials against the baseline, as a function of the tuning budget n."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from relaxbench.analysis.best_of_n import Matrix, differences_by_budget, medians_by_budget
from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.log_scale import smallest_positive
from relaxbench.analysis.targets import budget
from relaxbench.pages.figure import Drawing, Figure, single
from relaxbench.pages.theme import (
    INK,
    KEY,
    Look,
    axis,
    band,
    file_name,
    key_above,
    layout,
    log_axis,
    plain,
    tick_text,
    tint,
    visible,
)

EXPECTED, MEDIAN = "expected best of n", "median best of n"
"""The views of a panel, as named by its switch."""

TRIALS = "n, random trials of tuning"

LOSS, LOGARITHM = "validation loss", "log10 of the validation loss"
"""The vertical axis. Losses that span decades are averaged as logarithms: else the worst run decides every mean."""

DECADES = 1000.0
"""Losses span decades if the middle 90 % of the random trials do, by this ratio, or if the problem says so."""

NARROW = 5.0
"""Values that span a smaller ratio have a linear axis: a logarithmic one would have too few ticks."""


def explored(frames: StudyFrames, problem: str) -> dict[str, Matrix]:
    """Return the values of the random trials per method: ``[blocks, trials]``, NaN where a trial is not done.

    Methods that a sampler tunes are left out: their trials depend on each other.
    """
    size = int(frames.spec.get("trials") or 1)
    trials = frames.trials
    done = trials[(trials["problem"] == problem) & (trials["phase"] == "explore") & (trials["status"] == "done")]
    done = done[done["number"] < size]
    tables = {}
    for method in (method for method in frames.methods if frames.is_random(method)):
        part = done[done["method"] == method]
        table = np.full((int(part["block"].max()) + 1 if len(part) else 0, size), np.nan)
        table[part["block"].to_numpy(dtype=int), part["number"].to_numpy(dtype=int)] = part["value"].to_numpy()
        tables[method] = table
    return tables


def loss_name(frames: StudyFrames, problem: str) -> str:
    """Return what is averaged on a problem: `LOSS` or `LOGARITHM`."""
    return _loss_name(frames, problem, _all(explored(frames, problem)))


def _loss_name(frames: StudyFrames, problem: str, known: Matrix) -> str:
    if not np.isfinite(smallest_positive(known)):
        return LOSS
    low, high = np.nanquantile(known, [0.05, 0.95])
    return LOGARITHM if frames.problem(problem)["decades"] or high > DECADES * low else LOSS


def _all(values: dict[str, Matrix]) -> Matrix:
    """The values of all methods, ``[n]``."""
    return np.concatenate([table.ravel() for table in values.values()] or [np.empty(0)])


def _compared(frames: StudyFrames, problem: str) -> dict[str, Matrix]:
    """Return `explored`, as it is averaged; nothing for repeated studies, whose answer is a rate per verdict.

    A logarithm needs a number above 0: a 0 counts as the smallest one of the problem.
    """
    if frames.repetitions != 1:
        return {}
    values = explored(frames, problem)
    known = _all(values)
    if _loss_name(frames, problem, known) == LOSS:
        return values
    floor = smallest_positive(known)
    return {method: np.log10(table.clip(floor)) for method, table in values.items()}


def by_budget(frames: StudyFrames, problem: str) -> pd.DataFrame:
    """Return the expected best of n and its difference from the baseline's (`best_of_n.differences_by_budget`).

    Empty for repeated studies, whose answer is a rate per verdict.
    """
    return differences_by_budget(_compared(frames, problem), frames.baseline, budget(frames, problem))


def medians(frames: StudyFrames, problem: str) -> pd.DataFrame:
    """Return the median best of n (`best_of_n.medians_by_budget`); empty for repeated studies."""
    return medians_by_budget(_compared(frames, problem), budget(frames, problem))


def differences(table: pd.DataFrame, look: Look, problem: str, loss: str = LOSS) -> list[Figure]:
    """Draw one panel per method: the difference of its expected best of n from the baseline's.

    Args:
        table: of `by_budget`.
        look: titles and colours.
        problem: its name.
        loss: of `loss_name`.
    """
    rows = table[table["difference"].notna()]
    if rows.empty:
        return []
    # A difference without an interval is a point.
    ends = [rows[f"difference_{end}"].fillna(rows["difference"]) for end in ("low", "high")]
    low, high = visible(*([*end, 0.0] for end in ends))
    panels = []
    for method in (method for method in look.titles if method in set(rows["method"])):
        part, colour = rows[rows["method"] == method], look.colours[method]
        figure = Drawing()
        figure.add_shape(
            type="line", x0=0, x1=1, xref="paper", y0=0, y1=0, line={"color": INK, "width": 1}, layer="between"
        )
        _band(figure, part["n"], part["difference_low"], part["difference_high"], colour)
        figure.add(
            "scatter",
            x=single(part["n"]),
            y=single(part["difference"]),
            mode="lines+markers",
            name=look.title(method),
            showlegend=False,
            line={"color": colour, "width": 2},
            marker={"color": colour, "size": 7},
            customdata=single(part["gradients"]),
            hovertemplate="best of %{x}: %{y:+.3~g}<br>%{customdata:,.0f} gradients of tuning<extra></extra>",
        )
        figure.update_layout(_panel(_key(look, method), int(table["n"].max())))
        if not part["difference"].between(low, high).any():
            figure.add_annotation(**_beyond(part["difference"], low, high, colour))
        figure.update_layout(yaxis=axis(f"difference from {look.title(str(look.baseline))}") | {"range": [low, high]})
        panels.append(
            Figure(
                f"budget-{file_name(problem)}-{file_name(method)}",
                f"{look.titles[method]}: the difference by tuning budget",
                f"Expected best {loss} of n random trials: {look.titles[method]} minus "
                f"{look.titles[str(look.baseline)]}, with its interval. Below zero is better.",
                figure,
                data=part.reset_index(drop=True),
            )
        )
    return panels


def best(table: pd.DataFrame, medians: pd.DataFrame, look: Look, problem: str, loss: str = LOSS) -> list[Figure]:
    """Draw one panel per method: its best of n and the baseline's, with a view of expectations and one of medians.

    Args:
        table: of `by_budget`.
        medians: of `medians`; without rows there is no second view.
        look: titles and colours.
        problem: its name.
        loss: of `loss_name`.
    """
    if table.empty:
        return []
    views = {
        EXPECTED: table.rename(columns={"expected": "value"})[["method", "n", "gradients", "value", "low", "high"]]
    }
    if len(medians):
        views[MEDIAN] = medians.rename(columns={"median": "value"})
    present = [method for method in look.titles if method in set(table["method"])]
    methods = [method for method in present if method != look.baseline] or present
    return [_best(views, look, problem, method, loss) for method in methods]


def _best(views: dict[str, pd.DataFrame], look: Look, problem: str, method: str, loss: str) -> Figure:
    figure, owners = Drawing(), list[str]()
    switch: dict[str, dict[str, Any]] = {}
    for label, frame in views.items():
        scale, floor = _scale(frame)
        for drawn in dict.fromkeys([str(look.baseline), method]):
            part = frame[frame["method"] == drawn]
            if part.empty:
                continue
            colour = look.colours[drawn]
            _band(figure, part["n"], part["low"].clip(lower=floor), part["high"], colour)
            figure.add(
                "scatter",
                x=single(part["n"]),
                y=single(part["value"]),
                name=look.title(drawn),
                mode="lines" if len(part) > 1 else "markers",
                marker={"color": colour, "size": 8},
                showlegend=False,
                line={"color": colour, "width": 2, "dash": "dot" if drawn == look.baseline else "solid"},
                customdata=single(part["gradients"]),
                hovertemplate="%{y:.4~g} (%{customdata:,.0f} gradients)",
            )
            owners += [label] * (len(figure.data) - len(owners))
        switch[label] = {"layout": scale}
    for label in switch:
        switch[label]["visible"] = [owner == label for owner in owners]
    figure.update_layout(_panel(_key(look, method, against=True), int(views[EXPECTED]["n"].max())))
    figure.update_layout(yaxis=axis(loss), hovermode="x unified")
    figure.update_layout(switch[EXPECTED]["layout"])
    for trace, is_visible in zip(figure.data, switch[EXPECTED]["visible"], strict=True):
        trace["visible"] = is_visible
    data = pd.concat(
        [frame[frame["method"].isin([method, look.baseline])].assign(view=label) for label, frame in views.items()],
        ignore_index=True,
    )
    return Figure(
        f"best-{file_name(problem)}-{file_name(method)}",
        f"{look.titles[method]}: the best of n",
        f"Best {loss} of n random trials of {look.titles[method]}, with its 95 % interval. The baseline's is dotted.",
        figure,
        switch if len(switch) > 1 else {},
        data,
    )


def _panel(key: dict[str, Any], largest: int) -> dict[str, Any]:
    """The layout of a panel over n, on a logarithmic axis, with the key above."""
    pad = 0.04 * np.log10(largest) or 0.1
    return layout(
        height=270,
        annotations=[key],
        margin={"l": 62, "r": 8, "t": 28, "b": 42},
        xaxis=axis(TRIALS) | log_axis(1, largest) | {"range": [-pad, np.log10(largest) + pad]},
    )


def _key(look: Look, method: str, against: bool = False) -> dict[str, Any]:
    """The key of a panel's lines."""
    words = f"<span style='color:{look.colours[method]}'>━</span> {plain(look.titles[method], KEY)}"
    if look.baseline and (against or method == look.baseline):
        dotted = f"<span style='color:{INK}'>┅</span> {look.title(look.baseline)}"
        words = dotted if method == look.baseline else f"{words}   {dotted}"
    return key_above(words)


def _beyond(values: pd.Series, low: float, high: float, colour: str) -> dict[str, Any]:
    """What stands in a panel of which all values lie beyond the axis that the panels share."""
    first, last = tick_text(float(values.iloc[0])), tick_text(float(values.iloc[-1]))
    is_above = values.iloc[0] > high
    return {
        "x": 0.5,
        "xref": "paper",
        "y": high if is_above else low,
        "yanchor": "top" if is_above else "bottom",
        "text": f"{'↑' if is_above else '↓'} {first}" + (f" to {last}" if last != first else ""),
        "showarrow": False,
        "font": {"color": colour, "size": 12},
    }


def _band(figure: Drawing, n: pd.Series, low: pd.Series, high: pd.Series, colour: str) -> None:
    """Add an interval as a filled outline where it has two ends."""
    known = (low.notna() & high.notna()).to_numpy()
    x, low, high = single(n)[known], single(low)[known], single(high)[known]
    figure.add("scatter", **band(x, low, high, tint(colour, 0.18)))


def _scale(frame: pd.DataFrame) -> tuple[dict[str, Any], float]:
    """The vertical axis of all panels of a view, and the lowest value that is drawn."""
    best = float(frame["value"].min())
    floor, high = float(frame[["value", "low"]].min(axis=None)), float(frame[["value", "high"]].max(axis=None))
    if best > 0 and high > NARROW * best:
        floor = max(floor, best / 2)  # an interval may reach below zero
        pad = 0.05 * np.log10(high / floor)
        shared = log_axis(floor, high) | {"range": [np.log10(floor) - pad, np.log10(high) + pad]}
    else:
        pad = 0.05 * (high - floor) or 0.5
        shared = {"type": "linear", "tickmode": "auto", "range": [floor - pad, high + pad]}
    return {f"yaxis.{key}": value for key, value in shared.items()}, floor
