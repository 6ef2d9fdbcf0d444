"""Means and rates with the interval of a single number, against scipy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from relaxbench.analysis.means import means, wilson


def test_means_have_the_t_interval() -> None:
    values = np.random.default_rng(0).lognormal(size=9)
    table = means(pd.DataFrame({"method": ["b"] * 9 + ["a"], "value": [*values, 2.0]}))
    known = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert table["method"].tolist() == ["b", "a"] and table["mean"].tolist() == pytest.approx([values.mean(), 2.0])
    assert table["half"].tolist() == pytest.approx([(known.high - known.low) / 2, np.nan], nan_ok=True)


def test_wilson_on_known_values() -> None:
    known = stats.binomtest(9, 200).proportion_ci(method="wilson")
    assert wilson(9, 200) == pytest.approx((known.low, known.high))
    assert wilson(0, 0) == (0.0, 1.0)
