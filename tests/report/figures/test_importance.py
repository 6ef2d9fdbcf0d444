"""Importances against variances that are known: of 4a + b the shares are 16/17 and 1/17."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from relaxbench.pages.theme import Look
from relaxbench.report import StudyFrames
from relaxbench.report.figures.importance import FEWEST, TOGETHER, effects, importance, importances
from relaxbench.report.figures.search_space import Exploration, Scale
from relaxbench.space import Choice

TOLERANCE = 0.03
"""Of ten seeds on either scale the largest error was 0.013, with 1,000 trials."""


def linear(ranges: list[Scale], slopes: list[float], trials: int, seed: int) -> Exploration:
    """Trials whose value is linear in the places of their settings."""
    rng = np.random.default_rng(seed)
    places = {
        each.name: rng.integers(0, len(each.choices), trials) / (len(each.choices) - 1)
        if each.choices
        else rng.random(trials)
        for each in ranges
    }
    value = sum(slope * places[each.name] for each, slope in zip(ranges, slopes, strict=True))
    numbers = pd.DataFrame({each.name: each.at(places[each.name]) for each in ranges})
    rows = {"trial_id": np.arange(trials), "block": 0, "number": np.arange(trials), "value": value, "diverged": False}
    return Exploration(ranges, pd.DataFrame(rows), numbers)


PLAIN = [Scale.number("a", 0.0, 1.0), Scale.number("b", -3.0, 5.0), Scale.number("c", 10.0, 20.0)]
LOGARITHMIC = [
    Scale.number("a", 1e-5, 10.0, log=True),
    Scale.number("b", 1e-3, 1.0, log=True),
    Scale.number("c", 1.0, 1e6, log=True),
]


@pytest.mark.parametrize("ranges", [PLAIN, LOGARITHMIC], ids=["linear", "log"])
@pytest.mark.parametrize("seed", range(3))
def test_shares_of_a_linear_value(ranges: list[Scale], seed: int) -> None:
    shares = effects(linear(ranges, [4, 1, 0], 1000, seed), 1000, seed)
    assert list(shares) == ["a", "b", "c", TOGETHER] and sum(shares.values()) == pytest.approx(1)
    assert shares["a"] == pytest.approx(16 / 17, abs=TOLERANCE)
    assert shares["b"] == pytest.approx(1 / 17, abs=TOLERANCE) and shares["c"] < 0.01


def test_a_choice_has_the_variance_of_its_options() -> None:
    """A coin's variance is 1/4, that of a uniform number 1/12: shares 3/4 and 1/4."""
    ranges = [Scale("coin", Choice(("heads", "tails"), "heads")), Scale.number("b", 0.0, 1.0)]
    shares = effects(linear(ranges, [1, 1], 1000, 0), 1000, 0)
    assert shares["coin"] == pytest.approx(3 / 4, abs=TOLERANCE) and shares["b"] == pytest.approx(1 / 4, abs=TOLERANCE)


def test_a_product_acts_together() -> None:
    exploration = linear([PLAIN[0], Scale.number("b", 0.0, 1.0)], [0, 0], 1000, 1)
    a, b = (exploration.numbers[name].to_numpy() - 0.5 for name in "ab")
    shares = effects(
        Exploration(exploration.scales, exploration.trials.assign(value=a * b), exploration.numbers), 1000, 0
    )
    assert shares[TOGETHER] > 0.8


def test_too_little_to_tell_from() -> None:
    exploration = linear(PLAIN, [4, 1, 0], FEWEST, 0)
    assert effects(exploration, FEWEST, 0) and not effects(exploration, FEWEST - 1, 0)
    assert not effects(
        Exploration(exploration.scales, exploration.trials.assign(value=1.0), exploration.numbers), FEWEST, 0
    )
    assert not effects(Exploration([], exploration.trials, exploration.numbers), FEWEST, 0)
    fixed = [Scale.number("a", 2.0, 2.0), *PLAIN[1:]]
    assert "a" not in effects(Exploration(fixed, exploration.trials, exploration.numbers), FEWEST, 0)


def test_a_study(digits: StudyFrames) -> None:
    found = importances(digits)
    pd.testing.assert_frame_equal(found, importances(digits))
    totals = found.groupby(["problem", "method"])["share"].sum()
    assert len(totals) == 6 and np.allclose(totals, 1) and found["share"].between(0, 1).all()
    assert set(found["trials"]) == {72, 120}  # 6 or 10 blocks
    look = Look.of({label: digits.method(label) for label in digits.methods}, digits.baseline)
    figure = importance(found, look, "digits-mlp")
    assert figure is not None and figure.data is not None
    shown = figure.figure.data[0]
    names = figure.figure.layout["yaxis"]["ticktext"]
    known = found.pivot(index="hyperparameter", columns="method", values="share").loc[names, list(look.titles)]
    assert names[-1] == TOGETHER and np.allclose(shown["z"], known, equal_nan=True)
    assert importance(found, look, "another") is None


def test_all_forests_together_see_so_many_trials(digits: StudyFrames, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relaxbench.report.figures.importance.MAX_TRIALS", 6 * 40)
    found = importances(digits)
    assert found.groupby("method")["trials"].first().sum() == 6 * 40
