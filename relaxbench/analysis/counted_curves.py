"""What the points of learning curves count as, where runs diverge."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from relaxbench.analysis.frames import StudyFrames


def counted(frames: StudyFrames, points: pd.DataFrame, column: str, worst: float) -> NDArray[np.float64]:
    """Return the values of curves, of which none is above the worst one; those that are not finite are the worst.

    A diverged run is the worst from its last measurement on, whatever that says: its loss may be finite still, where
    the next step overflows, and the study counts the run as the worst.

    Args:
        frames: the study.
        points: rows of `StudyFrames.curves`; the points of a run follow one another.
        column: one of its measures.
        worst: what a diverged run counts as; infinite where that is not known.
    """
    values = points[column].to_numpy(dtype=float)
    lost = frames.trials.loc[frames.trials["diverged"].astype(bool), "id"]
    is_end = points["trial_id"].isin(lost) & ~points["trial_id"].duplicated(keep="last")
    return np.minimum(np.where(np.isfinite(values) & ~is_end.to_numpy(), values, np.inf), worst)
