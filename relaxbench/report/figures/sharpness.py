"""The figure of flatness and generalization: the largest Hessian eigenvalue against the test metric."""

from __future__ import annotations

import numpy as np
import pandas as pd

from relaxbench.analysis.frames import StudyFrames
from relaxbench.pages.figure import Drawing, Figure
from relaxbench.pages.theme import INK, Look, axis, file_name, layout, log_axis, plain


def confirmed_flatness(frames: StudyFrames, problem: str) -> pd.DataFrame:
    """Flatness of every block's confirm run: method, block, value (the test metric), top (the largest eigenvalue)."""
    flat = frames.flatness
    rows = flat[(flat["problem"] == problem) & (flat["phase"] == "confirm")]
    return rows[["method", "block", "test_metric", "hessian_top_1"]].rename(
        columns={"test_metric": "value", "hessian_top_1": "top"}
    )


def sharpness(frame: pd.DataFrame, look: Look, problem: str, metric: str, unit: str) -> Figure | None:
    """One mark per confirm run of a block (a frame of `confirmed_flatness`), None where nothing can be drawn."""
    shown = frame[(frame["top"] > 0) & np.isfinite(frame["value"])]
    if shown.empty:
        return None
    figure = Drawing()
    for method in look.titles:
        part = shown[shown["method"] == method]
        if part.empty:
            continue
        colour, title = look.colours[method], look.title(method)
        figure.add(
            "scatter",
            x=np.asarray(part["top"], dtype=np.float32),
            y=np.asarray(part["value"], dtype=np.float32),
            mode="markers",
            name=title,
            marker={"color": colour, "size": 8, "symbol": "diamond" if colour == INK else "circle"},
            hovertemplate=f"{title}: λ₁ %{{x:.3~g}}, %{{y:.4~g}} {plain(unit)}<extra></extra>",
        )
    low, high = float(shown["top"].min()), float(shown["top"].max())
    pad = 0.05 * np.log10(high / low) or 0.1
    label = f"{metric} ({unit})" if unit and unit not in metric else metric
    best, worst = float(shown["value"].min()), float(shown["value"].max())
    figure.update_layout(
        layout(
            height=380,
            # One method that failed must not flatten all others.
            yaxis=axis(plain(label, 60)) | (log_axis(best, worst) if 0 < 10 * best < worst else {}),
            xaxis=axis("largest Hessian eigenvalue of the training loss")
            | log_axis(low, high)
            | {"range": [np.log10(low) - pad, np.log10(high) + pad]},
            legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"color": INK, "size": 12}},
            margin={"l": 62, "r": 8, "t": 34, "b": 48},
        )
    )
    return Figure(
        f"sharpness-{file_name(problem)}",
        "Flatness and generalization",
        "A mark is a block's confirming run: farther left is flatter, lower generalizes better. Diamonds are the "
        "baseline's.",
        figure,
        data=shown,
    )
