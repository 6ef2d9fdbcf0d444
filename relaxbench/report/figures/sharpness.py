"""Flatness and generalization: the test metric over the largest Hessian eigenvalue."""

from __future__ import annotations

import numpy as np
import pandas as pd

from relaxbench.analysis.frames import ProblemFacts, StudyFrames
from relaxbench.pages.figure import Drawing, Figure
from relaxbench.pages.theme import INK, Look, axis, file_name, layout, log_axis, plain, with_unit


def confirmed_flatness(frames: StudyFrames, problem: str) -> pd.DataFrame:
    """Return the flatness of the confirm runs that have it.

    Columns: method, block, value (the test metric), top (the largest eigenvalue of the Hessian).
    """
    flat = frames.flatness
    confirmed = flat[(flat["problem"] == problem) & (flat["phase"] == "confirm")]
    return confirmed[["method", "block", "test_metric", "hessian_top_1"]].rename(
        columns={"test_metric": "value", "hessian_top_1": "top"}
    )


def sharpness(
    frame: pd.DataFrame, look: Look, problem: str, about: ProblemFacts, examples: int | None = None
) -> Figure | None:
    """Draw one mark per run; None where nothing can be drawn.

    Args:
        frame: from `confirmed_flatness`.
        look: of the page.
        problem: its name.
        about: its facts.
        examples: in the loss, if the study states their number.
    """
    rows = frame[(frame["top"] > 0) & np.isfinite(frame["value"])]
    if rows.empty:
        return None
    figure = Drawing()
    for method in look.titles:
        part = rows[rows["method"] == method]
        if part.empty:
            continue
        colour, title = look.colours[method], look.title(method)
        figure.add(
            "scatter",
            x=np.asarray(part["top"], dtype=np.float32),
            y=np.asarray(part["value"], dtype=np.float32),
            mode="markers",
            name=title,
            marker={"color": colour, "size": 8, "symbol": "diamond" if colour == INK else look.symbol(method)},
            hovertemplate=f"{title}: λ₁ %{{x:.3~g}}, %{{y:.4~g}} {plain(about['unit'])}<extra></extra>",
        )
    low, high = float(rows["top"].min()), float(rows["top"].max())
    pad = 0.05 * np.log10(high / low) or 0.1
    best, worst = float(rows["value"].min()), float(rows["value"].max())
    figure.update_layout(
        layout(
            height=380,
            # A logarithmic axis keeps a failed method from flattening all others.
            yaxis=axis(with_unit(about["metric"], about["unit"]))
            | (log_axis(best, worst) if 0 < 10 * best < worst else {}),
            xaxis=axis("largest Hessian eigenvalue of the training loss")
            | log_axis(low, high)
            | {"range": [np.log10(low) - pad, np.log10(high) + pad]},
            legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"color": INK, "size": 12}},
            margin={"l": 62, "r": 8, "t": 34, "b": 48},
        )
    )
    loss = f" Its loss is that of {examples:,} training examples." if examples and examples > 1 else ""
    return Figure(
        f"sharpness-{file_name(problem)}",
        "Flatness and generalization",
        "Each mark runs the best settings of a block on a fresh seed: farther left is flatter, lower generalizes "
        f"better. Diamonds are the baseline's runs.{loss}",
        figure,
        data=rows,
    )
