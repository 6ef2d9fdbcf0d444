"""Gradients to targets and profiles over problems, against hand-made cases and numerical integrals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from relaxbench.analysis.targets import (
    REACH,
    first_arrival,
    interquartile_mean,
    last_value,
    median_interval,
    profile,
    ratios,
    score,
    summary,
)

INF = float("inf")
GRADIENTS = np.array([100.0, 200.0, 300.0, 400.0])


@pytest.mark.parametrize(
    ("values", "target", "known"),
    [
        ([4, 3, 2, 1], 2, 300), ([4, 3, 2, 1], 0.5, INF), ([4, 1, 3, 1], 1.5, 200), ([1, 2, 3, 4], 1, 100),
        ([4, np.nan, np.nan, np.nan], 5, 100), ([4, np.nan, np.nan, np.nan], 3, INF),
    ],
)  # fmt: skip
def test_first_arrival(values: list[float], target: float, known: float) -> None:
    assert first_arrival(GRADIENTS, np.array(values, dtype=float), target) == known


def test_last_value() -> None:
    values = np.array([4.0, 3.0, np.nan, 1.0])
    found = [last_value(GRADIENTS, values, until) for until in (99, 100, 250, 300, 1000)]
    assert found == pytest.approx([np.nan, 4, 3, INF, 1], nan_ok=True)


@pytest.mark.parametrize("n", [1, 5, 6, 10, 25])
def test_median_interval_agrees_with_scipy(n: int) -> None:
    values = np.random.default_rng(n).gamma(2, 100, n)
    known = stats.quantile_test(values, p=0.5).confidence_interval(0.95)
    median, low, high = median_interval(values)
    assert median == np.median(values)
    assert (low, high) == pytest.approx((known.low, known.high), nan_ok=True)


def test_misses_are_infinitely_late() -> None:
    times = pd.DataFrame({
        "method": ["sgd"] * 6 + ["hj"] * 6 + ["heat"] * 6,
        "gradients": [100, 200, 300, 400, 500, 600, 10, 20, 30, 40, INF, INF, 50, INF, INF, INF, INF, INF],
    })  # fmt: skip
    found = summary(times, "sgd").set_index("method")
    assert found.loc["hj", ["median", "low", "high", "runs", "misses"]].tolist() == [35, 10, INF, 6, 2]
    assert found["ratio"].to_dict() == {"sgd": 1, "hj": 0.1, "heat": INF}
    assert summary(times, "heat")["ratio"].isna().all()  # nothing is a multiple of what never arrives
    assert summary(times, None)["ratio"].isna().all() and summary(times[:0], "sgd").empty


def test_ratios_to_the_fastest() -> None:
    found = ratios(np.array([[100, 200, INF], [30, 10, 10], [INF, INF, INF]], dtype=float))
    assert found.tolist() == [[1, 2, INF], [3, 1, 1], [INF, INF, INF]]


@pytest.mark.parametrize("seed", range(5))
def test_score_is_the_area_below_the_profile(seed: int) -> None:
    rng = np.random.default_rng(seed)
    relative = np.where(rng.random(9) < 0.2, INF, 1 + rng.exponential(1.5, 9).round(1))
    tau, share = profile(relative)
    assert tau[0] == 1 and tau[-1] == REACH
    assert [np.mean(relative <= each) for each in tau] == share.tolist()
    assert score(relative) == pytest.approx(np.sum(np.diff(tau) * share[:-1]) / (REACH - 1))
    middles = 1 + (np.arange(30_000) + 0.5) / 10_000
    assert score(relative) == pytest.approx(np.mean(relative[:, None] <= middles), abs=1e-3)


def test_scores_at_the_ends() -> None:
    assert score(np.ones(6)) == 1 and score(np.full(6, INF)) == 0 and score(np.array([REACH, 9.0])) == 0


def test_interquartile_mean() -> None:
    assert interquartile_mean(np.array([1.0, 2, 3, 4, 5, 6, 7, INF])) == 4.5
    assert interquartile_mean(np.array([1.0, 2, INF, INF, INF])) == INF
