"""The tuned baseline as a reference, on the axis of validation loss that figures of the search share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.paired import means
from relaxbench.pages.theme import BAND, INK
from relaxbench.report.figures.settings import PAD, Scale, Vector

LOSS = "validation loss"


@dataclass(frozen=True)
class Reference:
    """The tuned baseline's validation loss.

    Attributes:
        mean: over the confirm runs of its blocks.
        low, high: the 95 % t interval of the mean, NaN for a single block.
    """

    mean: float
    low: float
    high: float


def reference(frames: StudyFrames, problem: str) -> Reference | None:
    """What the baseline reaches on a problem; None where it has no complete block."""
    runs = frames.blocks[(frames.blocks["problem"] == problem) & (frames.blocks["method"] == frames.baseline)]
    if runs.empty:
        return None
    row = means(runs[["method", "value"]]).iloc[0]
    return Reference(float(row["mean"]), float(row["mean"] - row["half"]), float(row["mean"] + row["half"]))


def loss_range(values: Vector, tuned: Reference | None) -> Scale:
    """Which losses are shown: all but the worst twentieth, and the tuned baseline's; logarithmic where it helps.

    Args:
        values: of trials that did not diverge, at least one.
        tuned: the baseline's.
    """
    shown = [float(values.min()), float(np.quantile(values, 0.95)), *([tuned.mean] if tuned else [])]
    low, high = min(shown), max(shown)
    return Scale.number(LOSS, low, high, log=0 < 3 * low < high)


def lines(tuned: Reference | None, loss: Scale, number: str = "") -> list[dict[str, Any]]:
    """Shapes of the reference: its mean as a dotted line, its interval as a band.

    Args:
        tuned: the baseline's.
        loss: what the axis shows.
        number: of the panel's axes, e.g. "2" for x2 and y2.
    """
    if tuned is None:
        return []
    where = {"xref": f"x{number} domain", "yref": f"y{number}", "x0": 0, "x1": 1, "layer": "below"}
    line = {"type": "line", "y0": tuned.mean, "y1": tuned.mean, "line": {"color": INK, "width": 1, "dash": "dot"}}
    if not tuned.low < tuned.high:
        return [where | line]
    low, high = np.clip([tuned.low, tuned.high], *loss.at(np.array([-PAD, 1 + PAD])))
    band = {"type": "rect", "y0": float(low), "y1": float(high), "fillcolor": BAND, "line": {"width": 0}}
    return [where | band, where | line]
