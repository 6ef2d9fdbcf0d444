"""The all-subsets estimate against enumeration of every subset."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from relaxbench.analysis.all_subsets import best_of_subsets, confirmed_ranks, rank_weights, ranking, weighted_mean
from relaxbench.store.winners import rank

LOSSES = st.one_of(st.sampled_from([0.5, 1.0, 2.0]), st.floats(0.1, 10), st.just(np.nan), st.just(np.inf))


@dataclass(frozen=True)
class Row:
    """A finished trial."""

    value: float
    block: int
    number: int
    phase: str = "explore"


def rows(values: np.ndarray) -> list[Row]:
    return [Row(float(value), block, number) for (block, number), value in np.ndenumerate(values)]


def enumerated(values: np.ndarray, logs: np.ndarray, confirmed: int) -> tuple[float, float]:
    """Mean ℓ over the T-subsets whose winner is among the best K and has a run, and the share of such subsets."""
    trials, results, size = rows(values), logs.ravel(), values.shape[1]
    best = sorted(range(len(trials)), key=lambda index: rank(trials[index]))[:confirmed]
    winners = [
        min(subset, key=lambda index: rank(trials[index]))
        for subset in itertools.combinations(range(len(trials)), size)
    ]
    among = [winner for winner in winners if winner in best]
    known = [results[winner] for winner in among if not np.isnan(results[winner])]
    return (float(np.mean(known)) if known else np.nan), len(known) / len(among)


def test_every_subset_is_counted() -> None:
    rng = np.random.default_rng(0)
    for blocks, size, confirmed in ((3, 4, 4), (2, 3, 6), (5, 2, 7), (12, 1, 12), (1, 5, 1)):
        values, logs = rng.normal(size=(blocks, size)), rng.normal(size=(blocks, size))
        estimate, share = best_of_subsets(values, logs, confirmed)
        assert float(estimate) == pytest.approx(enumerated(values, logs, confirmed)[0], rel=1e-12)
        assert share == 1


@given(arrays(float, (3, 3), elements=LOSSES), arrays(float, (3, 3), elements=st.floats(-3, 3)), st.integers(1, 9))
def test_ties_and_values_that_are_not_finite(values: np.ndarray, logs: np.ndarray, confirmed: int) -> None:
    estimate, _ = best_of_subsets(values, logs, confirmed)
    assert float(estimate) == pytest.approx(enumerated(values, logs, confirmed)[0], abs=1e-9)


@given(arrays(float, (4, 3), elements=LOSSES))
def test_ranks_are_those_of_the_store(values: np.ndarray) -> None:
    trials = rows(values)
    assert ranking(values).tolist() == sorted(range(12), key=lambda index: rank(trials[index]))


@given(arrays(bool, (3, 3)), st.integers(1, 9))
def test_missing_confirmations_are_told(missing: np.ndarray, confirmed: int) -> None:
    rng = np.random.default_rng(1)
    values, logs = rng.normal(size=(3, 3)), np.where(missing, np.nan, rng.normal(size=(3, 3)))
    estimate, share = best_of_subsets(values, logs, confirmed)
    known, reached = enumerated(values, logs, confirmed)
    assert float(share) == pytest.approx(reached, abs=1e-12)
    assert float(estimate) == pytest.approx(known, nan_ok=True)


def test_runs_beyond_the_confirmed_ranks_are_not_used() -> None:
    rng = np.random.default_rng(2)
    values, logs = rng.normal(size=(6, 12)), rng.normal(size=(6, 12))
    count = confirmed_ranks(72, 12)
    hidden = logs.copy()
    hidden.ravel()[ranking(values)[count:]] = np.nan
    assert best_of_subsets(values, logs) == best_of_subsets(values, hidden)
    assert best_of_subsets(values, hidden)[1] == 1


def test_many_studies_at_once_are_each_alone() -> None:
    rng = np.random.default_rng(3)
    values, logs = rng.normal(size=(4, 6, 5)), rng.normal(size=(4, 6, 5))
    estimate, share = best_of_subsets(values, logs)
    alone = [float(best_of_subsets(values[study], logs[study])[0]) for study in range(4)]
    assert estimate == pytest.approx(alone, rel=1e-12)
    assert share.shape == (4,)


def test_weights_are_those_of_the_binomials() -> None:
    known = [math.comb(20 - rank, 3) / math.comb(20, 4) for rank in range(1, 21)]
    assert rank_weights(20, 4) == pytest.approx(known, rel=1e-12)


@pytest.mark.parametrize(
    ("trials", "size", "confirmed"), [(120, 12, 40), (480, 12, 160), (80, 8, 34), (30, 3, 23), (10, 1, 10), (7, 7, 3)]
)
def test_a_third_is_confirmed_where_that_holds_nearly_every_winner(trials: int, size: int, confirmed: int) -> None:
    assert confirmed_ranks(trials, size) == confirmed
    chance = [math.comb(trials - rank, size - 1) / math.comb(trials, size) for rank in range(1, trials + 1)]
    assert sum(chance[confirmed:]) <= 0.01
    assert confirmed == math.ceil(trials / 3) or sum(chance[confirmed - 1 :]) > 0.01


def test_equal_results_have_exactly_their_mean() -> None:
    assert best_of_subsets(np.random.default_rng(4).normal(size=(6, 4)), np.full((6, 4), 0.1))[0] == 0.1
    assert np.isnan(weighted_mean(np.array([np.nan, 1.0]), np.array([1.0, 0.0])))


@pytest.mark.parametrize(
    ("values", "logs", "confirmed"),
    [(np.zeros((2, 3)), np.zeros((3, 2)), 1), (np.zeros(3), np.zeros(3), 1), (np.zeros((2, 3)), np.zeros((2, 3)), 7)],
)
def test_what_is_no_set_of_blocks_is_refused(values: np.ndarray, logs: np.ndarray, confirmed: int) -> None:
    with pytest.raises(ValueError, match=r"expected blocks|cannot be confirmed"):
        best_of_subsets(values, logs, confirmed)


@pytest.mark.parametrize(("trials", "size"), [(3, 4), (3, 0)])
def test_more_trials_than_there_are_cannot_be_drawn(trials: int, size: int) -> None:
    with pytest.raises(ValueError, match="cannot be drawn"):
        confirmed_ranks(trials, size)
