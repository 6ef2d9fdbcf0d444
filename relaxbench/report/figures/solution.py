"""A solution and its error: heat maps for two coordinates, curves for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxbench.analysis.frames import ProblemFacts, StoredSolution, StudyFrames
from relaxbench.pages.figure import Drawing, Figure, single
from relaxbench.pages.theme import MUTED, PAPER, Look, axis, file_name, key_above, layout, plain, with_unit

VALUES = [[0.0, "#00204d"], [0.25, "#414d6b"], [0.5, "#7c7b78"], [0.75, "#bcaf6f"], [1.0, "#ffea46"]]
"""Cividis, made for all kinds of colour vision (Nuñez, Anderton & Renslow, 2018)."""
ERRORS = [[0.0, "#0072b2"], [0.5, PAPER], [1.0, "#d55e00"]]


@dataclass(frozen=True)
class Shown:
    """A run whose solution is drawn.

    Attributes:
        method: its label.
        metric: its test metric, in the display unit.
        solution: on a grid.
    """

    method: str
    metric: float
    solution: StoredSolution


def chosen(frames: StudyFrames, problem: str) -> list[Shown]:
    """Return a run of the baseline and one of the best other method; empty where solutions were not stored.

    Validation chooses both: of a method's recommended runs the one with the lowest validation loss is shown, and the
    best method is the one whose run has the lowest.
    """
    runs = frames.recommended
    runs = runs[(runs["problem"] == problem) & runs["id"].isin(list(frames.solutions))]
    best = runs.sort_values(["validation_loss", "id"]).groupby("method", sort=False).head(1)
    rest = best[best["method"] != frames.baseline].head(1)
    rows = [*best[best["method"] == frames.baseline].itertuples(), *rest.itertuples()]
    return [Shown(str(row.method), float(row.test_metric), frames.solutions[int(row.id)]) for row in rows]


def solutions(runs: Sequence[Shown], look: Look, problem: str, about: ProblemFacts) -> list[Figure]:
    """Draw the exact solution, and those of the runs with their errors, one panel each; empty without runs.

    Args:
        runs: from `chosen`.
        look: of the page.
        problem: its name.
        about: its facts.
    """
    if not runs:
        return []
    if len(runs[0].solution.axes) == 1:
        return _curves(runs, look, problem)
    first = runs[0].solution
    low, high = float(first.exact.min()), float(first.exact.max())
    panels = [_map("exact", f"exact {first.quantity}", "The exact solution.", first, first.exact, VALUES, low, high)]
    reach = max(float(np.abs(run.solution.error).max()) for run in runs) or 1.0  # one scale: errors are comparable
    for run in runs:
        name, own, title = plain(look.titles[run.method], 20), run.solution, look.titles[run.method]
        level = f"{with_unit(about['metric'], about['unit'])} {run.metric:.3g}"
        most = float(np.abs(own.error).max())
        trained = f"The solution by {title}: {level}. Colours are those of the exact one."
        panels.append(_map(run.method, f"{name}: {own.quantity}", trained, own, own.trained, VALUES, low, high))
        away = f"The solution by {title} less the exact one, at most {most:.3g} on the grid."
        words = f"{name}: error, {run.metric:.3g}"  # of the metric; longer words would be cut off
        panels.append(_map(f"{run.method}-error", words, away, own, own.error, ERRORS, -reach, reach))
    return [_named(panel, problem) for panel in panels]


def _named(panel: Figure, problem: str) -> Figure:
    return Figure(f"solution-{file_name(problem)}-{file_name(panel.key)}", panel.title, panel.reading, panel.figure)


def _map(
    key: str,
    title: str,
    reading: str,
    solution: StoredSolution,
    values: NDArray[np.float64],
    colours: list[list[Any]],
    low: float,
    high: float,
) -> Figure:
    """A heat map of values on the grid of a solution."""
    (across, x), (up, y) = solution.axes.items()
    figure = Drawing()
    figure.add(
        "heatmap",
        x=single(x),
        y=single(y),
        z=single(values.T),
        zmin=low,
        zmax=high,
        colorscale=colours,
        zsmooth="fast",
        hovertemplate=f"{plain(across)} %{{x:.3~g}}, {plain(up)} %{{y:.3~g}}: %{{z:.3~g}}<extra></extra>",
        colorbar={"thickness": 8, "outlinewidth": 0, "nticks": 5, "exponentformat": "power", "xpad": 4, "ypad": 0}
        | {"tickfont": {"color": MUTED, "size": 11}, "tickformat": ".2~g"},
    )
    plot = layout(
        height=270,
        xaxis=axis(plain(across)) | {"showgrid": False},
        yaxis=axis(plain(up)) | {"showgrid": False},
        annotations=[key_above(title)],
        margin={"l": 42, "r": 8, "t": 28, "b": 42},
    )
    figure.update_layout(plot)
    return Figure(key, title, reading, figure)


def _curves(runs: Sequence[Shown], look: Look, problem: str) -> list[Figure]:
    """One panel of solutions, and one of errors."""
    first = runs[0].solution
    ((across, x),) = first.axes.items()
    panels = []
    for key, words in (("values", first.quantity), ("errors", f"error of {first.quantity}")):
        figure, names = Drawing(), list[str]()
        if key == "values":
            figure.add("scatter", **_line(x, first.exact, MUTED, "exact", "dot"))
            names.append(f"<span style='color:{MUTED}'>┅</span> exact")
        for run in runs:
            colour, title = look.colours[run.method], plain(look.titles[run.method], 20)
            values = run.solution.trained if key == "values" else run.solution.error
            figure.add("scatter", **_line(x, values, colour, title, "solid"))
            names.append(f"<span style='color:{colour}'>━</span> {title}")
        plot = layout(
            height=270,
            xaxis=axis(plain(across)),
            yaxis=axis(plain(words)) | {"tickformat": ".2~g", "exponentformat": "power"},
            annotations=[key_above("   ".join(names))],
            hovermode="x unified",
            margin={"l": 58, "r": 8, "t": 28, "b": 42},
        )
        figure.update_layout(plot)
        panels.append(_named(Figure(key, words, f"{words} over {across}.".capitalize(), figure), problem))
    return panels


def _line(x: NDArray[np.float64], y: NDArray[np.float64], colour: str, name: str, dash: str) -> dict[str, Any]:
    line = {"color": colour, "width": 2, "dash": dash}
    return {"x": single(x), "y": single(y), "mode": "lines", "name": name, "line": line, "hovertemplate": "%{y:.3~g}"}
