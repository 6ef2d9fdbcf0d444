"""How two hyperparameters act together: the scope γ (or σ) against the inner loop's length and the step sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from relaxbench.pages.figure import Drawing, Figure
from relaxbench.pages.theme import GRID, MUTED, Look, file_name, layout, plain
from relaxbench.report.figures.search_space import LOSS, loss_range
from relaxbench.report.figures.settings import Scale, Tried, Vector, order

ACROSS, UP = 8, 6
"""Bins of the scope, and of the other hyperparameter; equally wide on the scales that were searched."""


def scope_of(tried: Tried, scope: str) -> tuple[Scale, Vector] | None:
    """The scope of each trial as one number: the geometric mean of its start and its end.

    Args:
        tried: a method's trials.
        scope: ``"gamma"`` or ``"sigma"``.

    Returns:
        Its range and its numbers; of start or end alone where the other was not searched, None where neither was.
    """
    found = [each for each in tried.ranges if each.name in (f"{scope}_start", f"{scope}_end")]
    if not found:
        return None
    if len(found) == 1 or not all(each.low > 0 for each in found):
        return found[0], tried.numbers[found[0].name].to_numpy()
    one, other = found
    between = Scale.number(scope, (one.low * other.low) ** 0.5, (one.high * other.high) ** 0.5, log=True)
    return between, np.sqrt(tried.numbers[one.name] * tried.numbers[other.name]).to_numpy()


def binned(x: Vector, y: Vector, values: Vector) -> pd.DataFrame:
    """Medians of values in ACROSS x UP equal bins: across, up (numbers of the bin), median, trials.

    Args:
        x, y: places in [0, 1] ``[n]``; trials without one are left out.
        values: results ``[n]``.
    """
    known = np.isfinite(x) & np.isfinite(y)
    frame = pd.DataFrame(
        {
            "across": np.clip(x[known] * ACROSS, 0, ACROSS - 1).astype(int),
            "up": np.clip(y[known] * UP, 0, UP - 1).astype(int),
            "value": values[known],
        }
    )
    groups = frame.groupby(["across", "up"])["value"]
    return groups.agg(median="median", trials="size").reset_index()


def interaction(tried: Tried, look: Look, problem: str, method: str, scope: str) -> Figure | None:
    """A map of median results over the scope and one other hyperparameter, chosen by a switch.

    None where the scope or all others were not searched, or every trial diverged.

    Args:
        tried: the method's trials.
        look: how methods appear.
        problem: its name.
        method: its label.
        scope: ``"gamma"`` or ``"sigma"``, see `scope_of`.
    """
    finite = tried.trials.loc[~tried.trials["diverged"], "value"].to_numpy()
    found = scope_of(tried, scope)
    others = [each for each in tried.ranges if order(each.name) in (1, 2) and not each.choices]
    if found is None or not others or not len(finite):
        return None
    across, numbers = found
    loss = loss_range(finite, None)
    places, values = across.places(numbers), tried.trials["value"].to_numpy()
    symbol = "σ" if scope == "sigma" else "γ"
    mean = across.name == scope  # not start or end alone
    figure, tables, views = Drawing(), [], {}
    for index, other in enumerate(others):
        cells = binned(places, other.places(tried.numbers[other.name].to_numpy()), values)
        figure.add("heatmap", **_map(cells, across, other, loss, look.colours[method], symbol if mean else across.name))
        tables.append(_table(cells, across, other))
        axis = other.axis(other.name)
        views[plain(other.name)] = {
            "visible": [each is other for each in others],
            "layout": {f"yaxis.{key}": value for key, value in axis.items() if key not in ("title", "linecolor")}
            | {"yaxis.title.text": axis["title"]["text"], "yaxis.range": _ends(other)},
        }
        figure.data[-1]["visible"] = index == 0
    title = f"{symbol}, geometric mean of start and end" if mean else across.name
    figure.update_layout(
        layout(
            height=330,
            xaxis=across.axis(title) | {"showgrid": False, "range": _ends(across)},
            yaxis=others[0].axis(others[0].name) | {"showgrid": False, "range": _ends(others[0])},
            margin={"l": 8, "r": 8, "t": 62, "b": 48},
        )
    )
    return Figure(
        f"interaction-{file_name(problem)}-{file_name(method)}",
        f"{look.titles[method]}: {symbol} and the inner loop",
        "Each cell is the median validation loss of the explore trials in it, diverged ones at the problem's worst: "
        "the stronger the better; empty cells hold no trial.",
        figure,
        views if len(views) > 1 else {},
        pd.concat(tables, ignore_index=True),
    )


def _map(cells: pd.DataFrame, across: Scale, other: Scale, loss: Scale, colour: str, symbol: str) -> dict[str, Any]:
    """The cells as colours; a cell's number of trials is told where one points at it."""
    medians, trials = np.full((UP, ACROSS), np.nan), np.zeros((UP, ACROSS))
    medians[cells["up"], cells["across"]] = cells["median"]
    trials[cells["up"], cells["across"]] = cells["trials"]
    x, y = (each.at(np.linspace(0, 1, bins + 1)) for each, bins in ((across, ACROSS), (other, UP)))
    spans = [
        [
            f"{symbol} {x[i]:.3g} to {x[i + 1]:.3g}, {plain(other.name)} {y[j]:.3g} to {y[j + 1]:.3g}"
            for i in range(ACROSS)
        ]
        for j in range(UP)
    ]
    scale = np.log10 if loss.log else np.asarray
    shown = loss.axis(LOSS)
    bar = {key: shown[key] for key in ("tickmode", "tickvals", "ticktext", "nticks") if key in shown}
    if "tickvals" in bar:
        bar["tickvals"] = [float(each) for each in scale(np.array(bar["tickvals"]))]
    return {
        "x": x.astype(np.float32),
        "y": y.astype(np.float32),
        "z": scale(medians).astype(np.float32),
        "customdata": np.stack([medians, trials], axis=-1).astype(np.float32),
        "text": spans,
        "zmin": float(scale(loss.low)),
        "zmax": float(scale(loss.high)),
        "xgap": 1,
        "ygap": 1,
        "colorscale": [[0, colour], [1, GRID]],
        "hovertemplate": "%{text}:<br>median %{customdata[0]:.4~g} of %{customdata[1]} trials<extra></extra>",
        "colorbar": bar
        | {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.02,
            "yanchor": "bottom",
            "thickness": 8,
            "len": 0.5,
            "outlinewidth": 0,
            "tickfont": {"color": MUTED, "size": 11},
            "ypad": 0,
            "xpad": 0,
            "title": {"text": LOSS, "side": "top", "font": {"color": MUTED, "size": 12}},
        },
    }


def _table(cells: pd.DataFrame, across: Scale, other: Scale) -> pd.DataFrame:
    """The cells by their edges."""
    edges = {
        f"{across.name}_low": across.at(cells["across"] / ACROSS),
        f"{across.name}_high": across.at((cells["across"] + 1) / ACROSS),
        "other": other.name,
        "other_low": other.at(cells["up"] / UP),
        "other_high": other.at((cells["up"] + 1) / UP),
    }
    return pd.DataFrame(edges).assign(median=cells["median"], trials=cells["trials"])


def _ends(range_: Scale) -> list[Any]:
    """A plotly axis from end to end, as the cells reach."""
    ends = np.array([range_.low, range_.high])
    return [float(end) for end in (np.log10(ends) if range_.log else ends)]
