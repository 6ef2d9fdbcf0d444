"""The theory expectation on a landscape, next to the results of a study.

`relaxbench.theory` computes the theory's numbers. The report does not import it: the command that writes a report
passes them on.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.means import means
from relaxbench.analysis.theory_numbers import Theorem
from relaxbench.pages.figure import Drawing, Figure
from relaxbench.pages.theme import (
    INK,
    MUTED,
    Look,
    axis,
    file_name,
    layout,
    log_axis,
    plain,
    row_axis,
    rows_height,
    vertical,
)


def measured(frames: StudyFrames, problem: str) -> pd.DataFrame:
    """Return the final loss of every method's confirm runs: method, mean, half (of its 95 % t interval), runs."""
    rows = frames.blocks[(frames.blocks["problem"] == problem) & frames.blocks["confirm"].notna()]
    table = means(rows[["method"]].assign(value=rows["value"]))
    return table.assign(runs=table["method"].map(rows.groupby("method").size()))


def expectation(theorem: Theorem, table: pd.DataFrame, look: Look, problem: str) -> Figure:
    """Draw the theory's three numbers on top, and below them the study's results (a frame of `measured`)."""
    theory = [
        ("theory: SGD, E V", *theorem.plain),
        ("theory: bound", *theorem.bound),
        ("theory: controlled, E V", *theorem.controlled),
    ]
    rows = [(name, mean, half, MUTED, "diamond") for name, mean, half in theory]
    if theorem.is_loss:
        rows += [
            (look.row(row.method), row.mean, row.half, look.colours[row.method], "circle") for row in table.itertuples()
        ]
    rows = rows[::-1]
    figure = Drawing()
    figure.add_shape(**vertical(theorem.plain[0], INK))
    for place, (name, mean, half, colour, symbol) in enumerate(rows):
        figure.add(
            "scatter",
            x=np.asarray([mean], dtype=np.float32),
            y=[place],
            mode="markers",
            name=name,
            showlegend=False,
            marker={"color": colour, "size": 10, "symbol": symbol},
            hovertemplate="%{x:.4~g}",
            error_x={"type": "data", "array": [float(half)], "color": colour, "thickness": 2, "width": 0},
        )
    labels = [name for name, *_ in rows]
    low, high = (pick(mean for _, mean, *_ in rows) for pick in (min, max))
    figure.update_layout(
        layout(
            height=110 + rows_height(labels, 30),
            xaxis=axis(plain(f"{theorem.terminal} at the end")) | (log_axis(low, high) if 0 < 20 * low < high else {}),
            yaxis=row_axis(labels),
        )
    )
    about = (
        "The study's runs below have other budgets and other noise."
        if theorem.is_loss
        else f"V is {theorem.terminal} here and not the loss, so the study's runs are not comparable with it."
    )
    data = pd.DataFrame(rows[::-1], columns=["name", "mean", "half", "colour", "symbol"])[["name", "mean", "half"]]
    return Figure(
        f"theory-{file_name(problem)}",
        "Theory expectation",
        f"Diamonds: E V of a noisy gradient flow (β = {theorem.beta:g}, T = {theorem.seconds:g}) by "
        f"{theorem.particles:,} particles, without and with optimal control, and the theorem's upper bound. {about}",
        figure,
        data=data,
    )
