"""Means and rates that describe a study, with the intervals of a single number. Verdicts do not rest on them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import special

from relaxbench.analysis.simultaneous import LEVEL


def means(values: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of ``value`` per method and the half width of its 95 % t interval: method, mean, half.

    The half width is NaN for a single value.
    """
    rows = []
    for method, part in values.groupby("method", sort=False)["value"]:
        n = len(part)
        half = float(special.stdtrit(n - 1, 1 - LEVEL / 2)) * float(part.std(ddof=1)) / n**0.5 if n > 1 else np.nan
        rows.append((method, float(part.mean()), half))
    return pd.DataFrame(rows, columns=["method", "mean", "half"])


def wilson(count: int, total: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a rate; (0, 1) without trials."""
    if total == 0:
        return 0.0, 1.0
    z = float(special.ndtri(1 - LEVEL / 2))
    rate, weight = count / total, z * z / total
    centre = (rate + weight / 2) / (1 + weight)
    half = z * np.sqrt(rate * (1 - rate) / total + weight / (4 * total)) / (1 + weight)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))
