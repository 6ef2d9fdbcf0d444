"""The theory expectation on a landscape, beside what a study measured there.

The numbers come from `relaxbench.theory`, which the report does not know: whoever writes a report hands them over.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.theory_numbers import Theorem
from relaxbench.pages.figure import Drawing, Figure
from relaxbench.pages.theme import INK, MUTED, Look, axis, file_name, layout, log_axis, plain, row_axis


def measured(frames: StudyFrames, problem: str) -> pd.DataFrame:
    """The final loss of every method's confirm runs: method, mean, half (of its 95 % t interval), runs."""
    from relaxbench.analysis.paired import means

    rows = frames.blocks[frames.blocks["problem"] == problem]
    table = means(rows[["method"]].assign(value=rows["value"]))
    return table.assign(runs=table["method"].map(rows.groupby("method").size()))


def expectation(theorem: Theorem, table: pd.DataFrame, look: Look, problem: str) -> Figure:
    """The theory's three numbers on top, below them what the study measured (a frame of `measured`)."""
    theory = [
        ("theory: SGD, E V", *theorem.plain),
        ("theory: bound", *theorem.bound),
        ("theory: controlled, E V", *theorem.controlled),
    ]
    rows = [(name, mean, half, MUTED, "diamond") for name, mean, half in theory]
    if theorem.is_loss:
        rows += [
            (look.title(row.method), row.mean, row.half, look.colours[row.method], "circle")
            for row in table.itertuples()
        ]
    rows = rows[::-1]
    figure = Drawing()
    figure.add_shape(
        type="line",
        x0=theorem.plain[0],
        x1=theorem.plain[0],
        y0=0,
        y1=1,
        yref="paper",
        layer="below",
        line={"color": INK, "width": 1, "dash": "dot"},
    )
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
    low, high = (pick(mean for _, mean, *_ in rows) for pick in (min, max))
    figure.update_layout(
        layout(
            height=110 + 30 * len(rows),
            xaxis=axis(plain(f"{theorem.terminal} at the end")) | (log_axis(low, high) if 0 < 20 * low < high else {}),
            yaxis=row_axis([name for name, *_ in rows]),
        )
    )
    about = (
        "the study's runs below end after their own budgets and with their own noise"
        if theorem.is_loss
        else (f"V is {theorem.terminal} here and not the loss, so the study's runs cannot stand beside it")
    )
    data = pd.DataFrame(rows[::-1], columns=["name", "mean", "half", "colour", "symbol"])[["name", "mean", "half"]]
    return Figure(
        f"theory-{file_name(problem)}",
        "What the theory expects",
        f"Diamonds: E V of a noisy gradient flow (β = {theorem.beta:g}, T = {theorem.seconds:g}) by "
        f"{theorem.particles:,} particles without and with the optimal control, and the bound that the theorem "
        f"promises; {about}.",
        figure,
        data=data,
    )
