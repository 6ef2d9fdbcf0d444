"""The figures of the theory: smoothed landscapes, densities over them, the inequality with its error bars."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from relaxbench.pages.figure import Drawing, Figure
from relaxbench.pages.theme import BAND, INK, MUTED, PALETTE, axis, layout, row_axis, tint
from relaxbench.theory import pde
from relaxbench.theory.expectation import Expectation
from relaxbench.theory.grid import Array, Grid
from relaxbench.theory.scenes import Scene

VISCOUS, INVISCID, HEAT = PALETTE[0], PALETTE[1], PALETTE[2]
CONTROLLED = PALETTE[0]
LEGEND = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"color": INK, "size": 12}}
DOTS = 1500
"""Particles drawn in the plane, of each kind."""


def landscape(scene: Scene) -> Figure:
    """Draw the landscape and its smoothing by the three equations, with one view per time γ."""
    return _line_landscape(scene) if len(scene.counts) == 1 else _plane_landscape(scene)


def densities(result: Expectation) -> Figure:
    """Draw the densities of plain and controlled particles at T, over the landscape."""
    return _line_densities(result) if len(result.scene.counts) == 1 else _plane_densities(result)


def inequality(result: Expectation) -> Figure:
    """Draw E V of SGD, the bound, and E V of controlled SGD: by particles with 95 % intervals, and on the grid."""
    exact = result.exact
    rows = (
        ("SGD", result.plain, exact.plain_loss, INK),
        ("bound", result.bound, exact.plain_loss - exact.cost, MUTED),
        ("controlled SGD", result.controlled, exact.controlled_loss, CONTROLLED),
    )
    figure = Drawing()
    for position, (name, estimate, truth, colour) in enumerate(rows[::-1]):
        figure.add(
            "scatter",
            x=[truth],
            y=[position],
            mode="markers",
            name="on the grid",
            showlegend=False,
            marker={"color": colour, "symbol": "line-ns-open", "size": 22, "line": {"width": 2, "color": colour}},
            hovertemplate=f"{name}, on the grid: %{{x:.5f}}<extra></extra>",
        )
        figure.add(
            "scatter",
            x=[estimate.mean],
            y=[position],
            mode="markers",
            name=name,
            showlegend=False,
            marker={"color": colour, "size": 11, "symbol": "diamond" if name == "bound" else "circle"},
            error_x={"type": "data", "array": [estimate.half], "color": colour, "thickness": 2.5, "width": 6},
            hovertemplate=f"{name}: %{{x:.5f}} ± {estimate.half:.5f}<extra></extra>",
        )
    title = f"E {result.scene.terminal_title} at the end"
    figure.update_layout(layout(height=220, xaxis=axis(title), yaxis=row_axis([name for name, *_ in rows[::-1]])))
    return Figure(
        f"inequality-{result.scene.name}",
        "The inequality",
        "Marks are means over particles with 95 % intervals, upright lines the same on the grid: controlled SGD must "
        "not lie to the right of the bound, which is SGD's mean less the cost of the control.",
        figure,
    )


def _line_landscape(scene: Scene) -> Figure:
    (low, high), figure = scene.window[0], Drawing()
    x = np.linspace(low, high, 401)[:, None]
    grid = Grid.box([low - 8.0], [high + 8.0], [8001])
    f = scene.loss(x)
    _line(figure, x, f, "f", _Stroke(INK, 1.5))
    owners: list[float | None] = [None]
    tops = []
    for gamma in scene.gammas:
        curves = (
            ("viscous (local entropy)", VISCOUS, "solid", pde.viscous(scene.loss, x, gamma, scene.beta, grid).value),
            ("inviscid (Moreau envelope)", INVISCID, "dash", pde.inviscid(scene.loss, x, gamma, grid).value),
            ("heat", HEAT, "dot", pde.heat(scene.loss, x, gamma, scene.beta).value),
        )
        for name, colour, dash, value in curves:
            _line(figure, x, value, name, _Stroke(colour, dash=dash))
            owners.append(gamma)
            tops += [value.min(), value.max()]
    span = [min(f.min(), *tops), max(f.max(), *tops)]
    pad = 0.04 * (span[1] - span[0])
    figure.update_layout(
        layout(
            height=360,
            xaxis=axis("x"),
            yaxis=axis("") | {"range": [span[0] - pad, span[1] + pad]},
            legend=LEGEND,
            margin={"l": 48, "r": 8, "t": 34, "b": 42},
            hovermode="x unified",
        )
    )
    return _switched(
        figure,
        scene,
        owners,
        f"Smoothed for a time γ, β = {scene.beta:g}",
        "The viscous and the inviscid equation widen wells and keep their floor low; the heat equation averages hills "
        "and wells alike, so that it lies above them.",
    )


def _plane_landscape(scene: Scene) -> Figure:
    (left, right), (bottom, top) = scene.window
    window = Grid.box([left, bottom], [right, top], [71, 57])
    around = Grid.box([left - 1.6, bottom - 1.6], [right + 1.6, top + 1.6], [181, 151])
    figure, owners = Drawing(), list[float | None]()
    f = scene.loss(window.points)
    levels = {
        "start": float(f.min()),
        "end": float(np.quantile(f, 0.9)),
        "size": float(np.quantile(f, 0.9) - f.min()) / 14,
    }
    figure.add("contour", **_contour(window, f, MUTED, levels, "f", 1.0))
    owners.append(None)
    for gamma in scene.gammas:
        u = pde.viscous_value(scene.loss, window, gamma, scene.beta, around)
        figure.add("contour", **_contour(window, u, VISCOUS, levels, "viscous (local entropy)", 1.8))
        owners.append(gamma)
    figure.update_layout(layout(height=420, **_plane(scene), legend=LEGEND))
    return _switched(
        figure,
        scene,
        owners,
        f"Smoothed for a time γ, β = {scene.beta:g}",
        "Level lines of f (grey) and of its local entropy (blue) at the same heights: the narrow well is filled before "
        "the wide one.",
    )


def _switched(figure: Drawing, scene: Scene, owners: list[float | None], title: str, reading: str) -> Figure:
    """Make one view per γ; the middle one is visible first."""
    views = {
        f"γ = {gamma:g}": {"visible": [owner in (None, gamma) for owner in owners], "layout": {}}
        for gamma in scene.gammas
    }
    for trace, visible in zip(figure.data, views[f"γ = {scene.gammas[1]:g}"]["visible"], strict=True):
        trace["visible"] = visible
    return Figure(f"landscape-{scene.name}", title, reading, figure, views)


def _line_densities(result: Expectation) -> Figure:
    scene, exact, figure = result.scene, result.exact, Drawing()
    (low, high), x = scene.window[0], result.exact.grid.axes[0]
    seen = (x >= low) & (x <= high)
    f = scene.loss(x[seen][:, None])
    figure.add(
        "scatter",
        x=_f(x[seen]),
        y=_f(f),
        mode="lines",
        name="f",
        yaxis="y2",
        line={"color": MUTED, "width": 1},
        fill="tozeroy",
        fillcolor=BAND,
        hoverinfo="skip",
    )
    edges = np.linspace(low, high, 81)
    for name, density, particles, colour in (
        ("SGD", exact.plain[-1], result.at_end[0], INK),
        ("controlled SGD", exact.controlled[-1], result.at_end[1], CONTROLLED),
    ):
        counted = np.histogram(particles[:, 0], edges)[0] / len(particles) / (edges[1] - edges[0])
        figure.add(
            "scatter",
            x=_f((edges[1:] + edges[:-1]) / 2),
            y=_f(counted),
            mode="markers",
            name=f"{name}, particles",
            marker={"color": tint(colour, 0.75) if colour != INK else MUTED, "size": 5},
            hoverinfo="skip",
        )
        _line(figure, x[seen][:, None], density[seen] / exact.grid.cell, name, _Stroke(colour))
    figure.update_layout(
        layout(
            height=360,
            xaxis=axis("x"),
            yaxis=axis("density at the end") | {"rangemode": "tozero"},
            yaxis2={
                "overlaying": "y",
                "side": "right",
                "visible": False,
                "fixedrange": True,
                "range": [min(0.0, f.min()), 1.6 * float(np.quantile(f, 0.97))],
            },
            legend=LEGEND,
            margin={"l": 48, "r": 8, "t": 34, "b": 42},
        )
    )
    return Figure(
        f"density-{scene.name}",
        f"Particles at T = {scene.seconds:g}",
        "Lines solve the Fokker–Planck equation, dots count particles; the landscape is behind them. All started at "
        f"x = {scene.start[0]:g}.",
        figure,
    )


def _plane_densities(result: Expectation) -> Figure:
    scene, figure = result.scene, Drawing()
    (left, right), (bottom, top) = scene.window
    window = Grid.box([left, bottom], [right, top], [71, 57])
    f = scene.loss(window.points)
    levels = {
        "start": float(f.min()),
        "end": float(np.quantile(f, 0.9)),
        "size": float(np.quantile(f, 0.9) - f.min()) / 14,
    }
    figure.add("contour", **_contour(window, f, MUTED, levels, "f", 1.0))
    for name, particles, colour in (("SGD", result.at_end[0], MUTED), ("controlled SGD", result.at_end[1], CONTROLLED)):
        few = particles[:DOTS]
        figure.add(
            "scatter",
            x=_f(few[:, 0]),
            y=_f(few[:, 1]),
            mode="markers",
            name=name,
            hoverinfo="skip",
            marker={"color": colour, "size": 3, "opacity": 0.7},
        )
    figure.update_layout(layout(height=420, **_plane(scene), legend=LEGEND))
    return Figure(
        f"density-{scene.name}",
        f"Particles at T = {scene.seconds:g}",
        f"{DOTS:,} particles of each kind over the level lines of f; all started at ({scene.start[0]:g}, "
        f"{scene.start[1]:g}).",
        figure,
    )


def _plane(scene: Scene) -> dict[str, Any]:
    (left, right), (bottom, top) = scene.window
    return {
        "xaxis": axis("x₁") | {"range": [left, right], "constrain": "domain", "showgrid": False},
        "yaxis": axis("x₂") | {"range": [bottom, top], "scaleanchor": "x", "constrain": "domain", "showgrid": False},
        "margin": {"l": 48, "r": 8, "t": 34, "b": 42},
    }


def _contour(
    grid: Grid, value: Array, colour: str, levels: dict[str, float], name: str, width: float
) -> dict[str, Any]:
    """Return level lines in one colour, which a theme may replace."""
    return {
        "x": _f(grid.axes[0]),
        "y": _f(grid.axes[1]),
        "z": _f(value.reshape(grid.shape).T),
        "name": name,
        "contours": {**levels, "coloring": "none"},
        "line": {"color": colour, "width": width},
        "showscale": False,
        "autocontour": False,
        "hoverinfo": "skip",
        "showlegend": True,
    }


class _Stroke(NamedTuple):
    color: str
    width: float = 2.2
    dash: str = "solid"


def _line(figure: Drawing, x: Array, y: Array, name: str, stroke: _Stroke) -> None:
    line = stroke._asdict()
    figure.add("scatter", x=_f(x[:, 0]), y=_f(y), mode="lines", name=name, line=line, hovertemplate="%{y:.3~g}")


def _f(values: Array) -> np.ndarray[Any, Any]:
    """Convert to float32: plotly packs arrays, and half the digits suffice on a screen."""
    return np.asarray(values, dtype=np.float32)
