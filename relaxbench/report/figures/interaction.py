"""Interactions of two hyperparameters: the scope γ (or σ) with the length of the inner loop and the step sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from relaxbench.pages.figure import Drawing, Figure
from relaxbench.pages.theme import GRID, MUTED, Look, file_name, layout, plain
from relaxbench.report.figures.search_space import LOSS, Exploration, Scale, Vector, loss_scale, order

ACROSS, UP = 8, 6
"""Number of bins of the scope and of the other hyperparameter, equally wide on the searched scales."""


def scope_of(exploration: Exploration, scope: str) -> tuple[Scale, Vector] | None:
    """Return the scope of each trial as one number: the geometric mean of its start and its end.

    Args:
        exploration: a method's trials.
        scope: ``"gamma"`` or ``"sigma"``.

    Returns:
        The scale of the scope and its numbers, one per trial. They are those of the start or the end where only one of
        them was searched. None where neither was.
    """
    scales = [scale for scale in exploration.scales if scale.name in (f"{scope}_start", f"{scope}_end")]
    if not scales:
        return None
    if len(scales) == 1 or not all(scale.low > 0 for scale in scales):
        return scales[0], exploration.numbers[scales[0].name].to_numpy()
    one, other = scales
    between = Scale.number(scope, (one.low * other.low) ** 0.5, (one.high * other.high) ** 0.5, log=True)
    return between, np.sqrt(exploration.numbers[one.name] * exploration.numbers[other.name]).to_numpy()


def binned(x: Vector, y: Vector, values: Vector) -> pd.DataFrame:
    """Return medians of values in ACROSS x UP equal bins: across, up (indices of the bin), median, trials.

    Args:
        x, y: places in [0, 1], ``[n]``; trials with a NaN are left out.
        values: results, ``[n]``.
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


def interaction(exploration: Exploration, look: Look, problem: str, method: str, scope: str) -> Figure | None:
    """Draw a map of median results over the scope and one other hyperparameter, which a switch selects.

    None where the scope or all others were not searched, and where every trial diverged.

    Args:
        exploration: the method's trials.
        look: titles and colours.
        problem: its name.
        method: its label.
        scope: ``"gamma"`` or ``"sigma"``, see `scope_of`.
    """
    scale_and_numbers = scope_of(exploration, scope)
    others = [scale for scale in exploration.scales if order(scale.name) in (1, 2) and not scale.choices]
    if scale_and_numbers is None or not others or not len(exploration.finite):
        return None
    across, numbers = scale_and_numbers
    loss = loss_scale(exploration.finite, None)
    places = across.places(numbers)
    symbol = "σ" if scope == "sigma" else "γ"
    mean = across.name == scope  # not start or end alone
    figure, tables, views = Drawing(), [], {}
    for index, other in enumerate(others):
        cells = binned(places, other.places(exploration.numbers[other.name].to_numpy()), exploration.values)
        figure.add("heatmap", **_map(cells, across, other, loss, look.colours[method], symbol if mean else across.name))
        tables.append(_table(cells, across, other))
        axis = other.axis(other.name)
        views[plain(other.name)] = {
            "visible": [scale is other for scale in others],
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
        "Each cell is the median validation loss of its explore trials; diverged trials have the problem's worst loss. "
        "A stronger colour is better; empty cells have no trial.",
        figure,
        views if len(views) > 1 else {},
        pd.concat(tables, ignore_index=True),
    )


def _map(cells: pd.DataFrame, across: Scale, other: Scale, loss: Scale, colour: str, symbol: str) -> dict[str, Any]:
    """The cells as a heat map; the hover text gives the number of trials of a cell."""
    medians, trials = np.full((UP, ACROSS), np.nan), np.zeros((UP, ACROSS))
    medians[cells["up"], cells["across"]] = cells["median"]
    trials[cells["up"], cells["across"]] = cells["trials"]
    x, y = (axis.at(np.linspace(0, 1, bins + 1)) for axis, bins in ((across, ACROSS), (other, UP)))
    spans = [
        [
            f"{symbol} {x[i]:.3g} to {x[i + 1]:.3g}, {plain(other.name)} {y[j]:.3g} to {y[j + 1]:.3g}"
            for i in range(ACROSS)
        ]
        for j in range(UP)
    ]
    scale = np.log10 if loss.log else np.asarray
    axis = loss.axis(LOSS)
    bar = {key: axis[key] for key in ("tickmode", "tickvals", "ticktext", "nticks") if key in axis}
    if "tickvals" in bar:
        bar["tickvals"] = [float(tick) for tick in scale(np.array(bar["tickvals"]))]
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
    """The cells with their edges."""
    edges = {
        f"{across.name}_low": across.at(cells["across"] / ACROSS),
        f"{across.name}_high": across.at((cells["across"] + 1) / ACROSS),
        "other": other.name,
        "other_low": other.at(cells["up"] / UP),
        "other_high": other.at((cells["up"] + 1) / UP),
    }
    return pd.DataFrame(edges).assign(median=cells["median"], trials=cells["trials"])


def _ends(scale: Scale) -> list[float]:
    """The range of a plotly axis that ends where the cells end."""
    ends = np.array([scale.low, scale.high])
    return [float(end) for end in (np.log10(ends) if scale.log else ends)]
