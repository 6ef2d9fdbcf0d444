"""Winners that crowd the edge of a range are found, and seldom where they lie anywhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from relaxbench.analysis.edges import EDGE, LEVEL, CrowdedEdge, binomial_tail, crowded_edges
from relaxbench.optim.registry import RULES
from relaxbench.space import Choice, Float, Int, Space, Value
from relaxbench.study.coordination.random_search import sample

RATE: Space = {"lr": Float(1e-3, 1.0, 0.1, log=True), "schedule": Choice(("step", "cosine"), "step")}


def winners(*rates: Value) -> list[dict[str, Value]]:
    return [{"lr": rate, "schedule": "step"} for rate in rates]


def test_winners_at_the_high_end_are_found_with_their_chance() -> None:
    """Six of ten in the highest tenth of three decades: above 10^-0.3 = 0.501."""
    found = crowded_edges(winners(0.51, 0.6, 0.7, 0.8, 0.9, 1.0, 0.5, 0.1, 0.02, 0.003), RATE)
    assert found == [CrowdedEdge("lr", "highest", 6, 10, 1.0, found[0].probability, 1e-3, 1.0)]
    assert found[0].probability == pytest.approx(stats.binom.sf(5, 10, EDGE))
    assert found[0].sentence == (
        "6 of 10 winners have lr at the highest end of its range 0.001 to 1 (1 by chance): the range may end too early."
    )


def test_the_low_end_is_on_the_scale_of_the_range() -> None:
    low = winners(*[0.0015] * 8, 0.1, 0.1)
    assert [(edge.side, edge.count) for edge in crowded_edges(low, RATE)] == [("lowest", 8)]
    linear: Space = {"lr": Float(0.0, 1.0, 0.5)}
    assert [(edge.side, edge.count) for edge in crowded_edges(winners(*[0.09] * 10), linear)] == [("lowest", 10)]
    assert crowded_edges(winners(*[0.11] * 10), linear) == []


def test_few_winners_or_winners_inside_are_no_finding() -> None:
    assert crowded_edges([], RATE) == []
    assert crowded_edges(winners(1.0), RATE) == []
    assert crowded_edges(winners(*[0.05] * 40), RATE) == []


def test_an_integer_range_ends_at_its_end() -> None:
    """Of 10 and 20, each is an end by chance in half of the winners; eight of ten are no finding (5.5 %)."""
    space: Space = {"inner_steps": Int(10, 20, 20, step=10)}
    ten: list[dict[str, Value]] = [{"inner_steps": 20}] * 10
    (found,) = crowded_edges(ten, space)
    assert (found.side, found.count, found.expected) == ("highest", 10, 5.0)
    assert found.probability == pytest.approx(2**-10)
    assert crowded_edges([*ten[:8], *[{"inner_steps": 10}] * 2], space) == []


@pytest.mark.parametrize("value", [None, "fast", math.nan, math.inf, True])
def test_values_that_are_no_numbers_are_left_out(value: Value) -> None:
    found = crowded_edges([*winners(*[1.0] * 6), *winners(value, value)], RATE)
    assert [(edge.count, edge.winners) for edge in found] == [(6, 6)]


def test_zero_lies_below_a_log_range() -> None:
    assert [edge.side for edge in crowded_edges(winners(*[0.0] * 6), RATE)] == ["lowest"]


@given(st.integers(0, 60), st.integers(0, 60), st.floats(0.01, 0.99))
def test_the_tail_is_that_of_scipy(count: int, trials: int, chance: float) -> None:
    expected = stats.binom.sf(count - 1, trials, chance)
    assert binomial_tail(count, trials, chance) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", ["sgd", "entropy-sgd"])
def test_random_winners_are_seldom_reported(name: str) -> None:
    """The level is that of the whole space; the counts are discrete, so that the real rate is lower."""
    space, studies, blocks = RULES[name].space, 400, 20
    seeds = np.random.default_rng(0).integers(2**62, size=(studies, blocks))
    reported = sum(bool(crowded_edges([sample(space, int(seed)) for seed in row], space)) for row in seeds)
    assert reported / studies <= LEVEL + 2 * math.sqrt(LEVEL * (1 - LEVEL) / studies)


def test_the_winners_of_thousands_of_blocks_are_counted_too() -> None:
    """A study of SGD against itself has as many blocks as its repetitions together."""
    trials, chance = 16_000, 0.1
    expected = stats.norm.sf((1_700 - 0.5 - trials * chance) / math.sqrt(trials * chance * (1 - chance)))
    assert binomial_tail(1_700, trials, chance) == pytest.approx(expected, rel=0.1)
    assert (binomial_tail(0, trials, chance), binomial_tail(trials + 1, trials, chance)) == (1.0, 0.0)
