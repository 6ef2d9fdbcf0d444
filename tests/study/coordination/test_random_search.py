"""Random settings: a function of the seed, within their ranges, on the scale that is declared."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from relaxbench.optim.registry import RULES
from relaxbench.space import Choice, Float, Hyperparameter, Int, to_stored
from relaxbench.study.coordination.distributions import distributions
from relaxbench.study.coordination.random_search import sample

SEEDS = st.integers(0, 2**63 - 1)


@st.composite
def hyperparameters(draw: st.DrawFn) -> Hyperparameter:
    kind = draw(st.sampled_from(["float", "log", "int", "choice"]))
    if kind == "choice":
        options = tuple(draw(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=5, unique=True)))
        return Choice(options, options[0])
    if kind == "int":
        low, step = draw(st.integers(1, 50)), draw(st.integers(1, 5))
        return Int(low, low + step * draw(st.integers(1, 20)), low, step)
    low = draw(st.floats(1e-8 if kind == "log" else -1e3, 1e3))
    return Float(low, low + max(abs(low), 1e-3) * draw(st.floats(1e-3, 1e6)), low, log=kind == "log")


@given(st.dictionaries(st.text(min_size=1, max_size=8), hyperparameters(), max_size=5), SEEDS)
def test_samples_are_pure_in_range_and_what_optuna_accepts(space: dict[str, Hyperparameter], seed: int) -> None:
    values = sample(space, seed)
    assert values == sample(dict(reversed(space.items())), seed)  # nor does the order matter
    assert values.keys() == space.keys() == distributions(space).keys() == to_stored(space).keys()
    for name, declared in space.items():
        value = values[name]
        if isinstance(declared, Choice):
            assert value in declared.options
        else:
            assert declared.low <= value <= declared.high  # type: ignore[operator]
        if isinstance(declared, Int):
            assert isinstance(value, int) and (value - declared.low) % declared.step == 0
        optuna = distributions(space)[name]
        assert optuna._contains(optuna.to_internal_repr(value))


@given(SEEDS)
def test_adding_a_hyperparameter_does_not_change_the_draws_of_the_others(seed: int) -> None:
    one, other = (sample(RULES[name].wide, seed) for name in ("sgd", "heat"))
    assert one == {name: other[name] for name in one}


@pytest.mark.parametrize("name", RULES)
def test_samples_follow_the_declared_scale(name: str) -> None:
    """Against SciPy: Kolmogorov–Smirnov for numbers, χ² for the rest; each test at one in a million."""
    space = RULES[name].wide
    drawn = [sample(space, seed) for seed in range(2000)]
    for key, declared in space.items():
        values = [row[key] for row in drawn]
        if isinstance(declared, Float):
            law = stats.loguniform if declared.log else stats.uniform
            bounds = (declared.low, declared.high if declared.log else declared.high - declared.low)
            p = stats.kstest(values, law(*bounds).cdf).pvalue
        else:
            options = (
                declared.options
                if isinstance(declared, Choice)
                else range(declared.low, declared.high + 1, declared.step)
            )
            counts = [values.count(option) for option in options]
            assert sum(counts) == len(values)
            p = stats.chisquare(counts).pvalue if len(counts) > 1 else 1.0
        assert p > 1e-6, (key, p)


def test_dimensions_are_independent() -> None:
    space = RULES["entropy-sgd"].wide
    names = [n for n, declared in space.items() if isinstance(declared, Float)]
    drawn = [sample(space, seed) for seed in range(2000)]
    for i, a in enumerate(names):
        for b in names[:i]:
            tau = stats.kendalltau([row[a] for row in drawn], [row[b] for row in drawn])
            assert abs(tau.statistic) < 5 * math.sqrt(4 / 9 / len(drawn)), (a, b)


def test_descriptions_and_distributions_say_the_same() -> None:
    space = {"a": Float(0.1, 10.0, 1.0, log=True), "b": Int(6, 30, 20, 2), "c": Choice(("x", "y"), "x")}
    found = distributions(space)
    assert (found["a"].low, found["a"].high, found["a"].log) == (0.1, 10.0, True)  # type: ignore[attr-defined]
    assert (found["b"].low, found["b"].high, found["b"].step) == (6, 30, 2)  # type: ignore[attr-defined]
    assert found["c"].choices == ("x", "y")  # type: ignore[attr-defined]
    assert to_stored(space) == {
        "a": {"kind": "float", "low": 0.1, "high": 10.0, "log": True},
        "b": {"kind": "int", "low": 6, "high": 30, "step": 2, "log": False},
        "c": {"kind": "categorical", "choices": ["x", "y"]},
    }
