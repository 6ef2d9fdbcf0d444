"""The cost of a run of each method: its ledger, its seconds, its memory."""

from __future__ import annotations

import numpy as np
import pandas as pd

from relaxbench.analysis.frames import StudyFrames
from relaxbench.pages.figure import Drawing, Figure
from relaxbench.pages.theme import INK, MUTED, Look, axis, file_name, layout, plain, row_axis, rows_height, vertical

LEDGER = ("gradients", "jvps", "examples", "measurement")


def costs(frames: StudyFrames, problem: str) -> pd.DataFrame:
    """Return the average cost of a confirm run: one row per method with one.

    Columns: method; gradients (equivalents, of which jvps are Jacobian-vector products), examples, measurement (passes
    that evaluate a run without training it, in gradient equivalents); measurement_share, measurement relative to
    gradients, of all finished trials of the method; seconds_per_gradient, seconds and peak_bytes, calibrated one run at
    a time; ``seconds_ratio`` (per gradient) and ``peak_bytes_ratio`` to the method that it is compared with; trials
    and total_gradients of all its finished trials.
    """
    done = _finished(frames, problem)
    runs = frames.confirmations[frames.confirmations["problem"] == problem]
    table = runs.groupby("method")[[*LEDGER, "seconds"]].mean().reindex(frames.methods).dropna(how="all")
    bills = done.groupby("method")[["measurement", "gradients"]].sum()
    table["measurement_share"] = (bills["measurement"] / bills["gradients"]).reindex(table.index)
    for key in ("seconds_per_gradient", "peak_bytes"):
        table[key] = [frames.cost(method, problem, key) for method in table.index]
    others = [frames.opponents.get(method, frames.baseline) for method in table.index]
    # Per gradient: a run that diverges ends early, and is no cheaper for it.
    for key, ratio in (("seconds_per_gradient", "seconds_ratio"), ("peak_bytes", "peak_bytes_ratio")):
        table[ratio] = table[key] / table[key].reindex(others).to_numpy()
    spent = done.groupby("method")["gradients"].agg(["size", "sum"]).reindex(table.index)
    return table.assign(trials=spent["size"], total_gradients=spent["sum"]).rename_axis("method").reset_index()


def measurement_share(frames: StudyFrames, problem: str) -> float:
    """Return the cost of all measurements on a problem relative to that of training, of finished trials."""
    done = _finished(frames, problem)
    gradients = float(done["gradients"].sum())
    return float(done["measurement"].sum()) / gradients if gradients else np.nan


def _finished(frames: StudyFrames, problem: str) -> pd.DataFrame:
    """The trials that are billed: pruned ones and spot checks too."""
    return frames.trials[(frames.trials["problem"] == problem) & frames.trials["status"].isin(("done", "pruned"))]


def relative(table: pd.DataFrame, look: Look, problem: str) -> Figure | None:
    """Draw seconds and memory of a run as multiples of those of the method that it is compared with (see `costs`)."""
    rows = table[table[["seconds_ratio", "peak_bytes_ratio"]].notna().all(axis=1)].iloc[::-1]
    rows = rows[rows["method"] != look.baseline]
    if rows.empty or look.baseline is None:
        return None
    figure, places = Drawing(), np.arange(len(rows), dtype=np.float32)
    figure.add_shape(**vertical(1, INK))
    for key, name, symbol, offset in (
        ("seconds_ratio", "time", "circle", 0.13),
        ("peak_bytes_ratio", "memory", "square-open", -0.13),
    ):
        figure.add(
            "scatter",
            x=rows[key].to_numpy(dtype=np.float32),
            y=places + np.float32(offset),
            mode="markers",
            name=name,
            marker={"color": INK, "size": 10, "symbol": symbol},
            hovertemplate=f"{name} %{{x:.2f}}×<extra></extra>",
        )
    high = float(rows[["seconds_ratio", "peak_bytes_ratio"]].max(axis=None))
    low = float(rows[["seconds_ratio", "peak_bytes_ratio"]].min(axis=None))
    labels, others = [look.row(method) for method in rows["method"]], {look.opponent(m) for m in rows["method"]}
    base = look.titles[str(others.pop())] if len(others) == 1 else "the method that each is compared with"
    figure.update_layout(
        layout(
            height=130 + rows_height(labels, 34),
            hovermode="closest",
            xaxis=axis(f"multiple of {plain(base, 60)}")
            | {"range": [min(0.0, low), 1.06 * max(high, 1.1)], "ticksuffix": "×"},
            yaxis=row_axis(labels),
            legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"color": MUTED, "size": 12}},
            margin={"l": 8, "r": 16, "t": 34, "b": 48},
        )
    )
    return Figure(
        f"cost-{file_name(problem)}",
        f"Cost of a run relative to {base}",
        "Each dot is the time of a run with the same number of gradients, each square its memory, both as multiples of "
        f"those of {base} (dotted line). Farther right costs more.",
        figure,
        data=table,
    )
