"""Profiles, kinds of problems and repeats, against plain counting."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from relaxbench.atlas.cells import Cell, Row
from relaxbench.atlas.profiles import baseline_profiles, profiles, relative
from relaxbench.atlas.repeats import once, repeats
from relaxbench.atlas.traits import correlations, observations

LEVELS = {"sgd": [2, 4, 10, 1, 30, 5], "heat": [1, 8, 10, 2, 15, 30], "hj": [4, 4, 5, 9, 15]}
"""Method → geometric mean of the metric on the problems 0, 1, …; one problem lacks the last method."""


def cells(study: str = "one") -> list[Cell]:
    return [
        Cell(study, f"p{place}", f"p{place}", 100.0 * (place + 1), method, method.upper(),
             role="baseline" if method == "sgd" else "candidate", verdict="baseline" if method == "sgd" else "worse",
             level=level, ratio=math.nan if method == "sgd" else level / LEVELS["sgd"][place])
        for method, levels in LEVELS.items() for place, level in enumerate(levels)
    ]  # fmt: skip


def test_a_profile_is_the_share_of_rows_within_a_factor_of_the_best() -> None:
    table = profiles(relative(cells()))
    best = [min(levels[place] for levels in LEVELS.values() if place < len(levels)) for place in range(6)]
    for method, levels in LEVELS.items():
        ratios = np.array([level / low for level, low in zip(levels, best, strict=False)])
        own = table[table["method"] == method]
        for tau in (1.0, 1.5, 2.0, 3.0, 4.0):
            share = own.loc[own["tau"] <= tau, "share"].iloc[-1]
            assert share == pytest.approx((ratios <= tau).mean())
        taus = np.linspace(1, 4, 30_001)
        assert own["score"].iloc[0] == pytest.approx(np.mean([(ratios <= tau).mean() for tau in taus]), abs=1e-3)
        assert own["problems"].iloc[0] == len(levels)


def test_a_method_is_compared_with_the_baseline_of_its_own_study() -> None:
    """The second study drew blocks that are twice as hard, and has AdamW, which halves SGD's error there."""
    one = cells()
    two = [replace(cell, study="two", level=2 * cell.level) for cell in one if cell.method == "sgd"]
    two += [replace(c, method="adamw", title="AdamW", role="candidate", level=c.level / 2) for c in two]
    table = relative([*one, *two]).set_index(["method", "base"])["relative"]
    for place, sgd in enumerate(LEVELS["sgd"]):
        best = min(sgd / 2, *(levels[place] for levels in LEVELS.values() if place < len(levels)))
        assert table["adamw", f"p{place}"] == pytest.approx(sgd / 2 / best)
        assert table["sgd", f"p{place}"] == pytest.approx(sgd / best)
    own = baseline_profiles(relative([*one, *two]))
    ratios = [table["sgd", f"p{place}"] for place in range(5)]  # HJ lacks the sixth problem
    assert own.loc[own["method"] == "hj", "score"].iloc[0] == pytest.approx(
        np.mean([max(4 - r, 0) / 3 for r in ratios])
    )


def test_settings_without_tuning_wide_spaces_and_repeats_are_in_no_profile() -> None:
    usual = cells()
    better = [replace(cell, study="two", level=0.001) for cell in usual]
    others = [replace(cell, arm="published", level=0.001) for cell in usual]
    others += [replace(cell, space="wide", level=0.001) for cell in usual]
    assert relative([*usual, *others, *better]).equals(relative(usual))
    assert profiles(relative(usual[:4])).empty  # too few problems for a share


def test_a_correlation_is_spearmans() -> None:
    batches = [8, 8, 64, 1, 32, 9]
    rows = [
        Row(
            "one", f"p{at}", f"p{at}", "", unit="%", budget=100.0 * (at + 1), batch=batches[at], level=LEVELS["sgd"][at]
        )
        for at in range(6)
    ]
    found = correlations(observations(rows, cells())).set_index(["method", "trait"])["correlation"]
    ratios = [level / own for level, own in zip(LEVELS["heat"], LEVELS["sgd"], strict=True)]
    for trait, values in (("budget", range(6)), ("batch", batches), ("level", LEVELS["sgd"])):
        assert found["heat", trait] == pytest.approx(stats.spearmanr(ratios, list(values)).statistic)
    assert ("heat", "sharpness") not in found.index  # nobody measured it
    assert {method for method, _ in found.index} == {"heat", "hj"}


def test_a_second_seed_is_compared_with_the_first_and_the_same_seed_is_not() -> None:
    one = Cell("one", "p@9", "p", 9.0, "hj", "HJ", verdict="better", ratio=0.5, low=0.4, high=0.6)
    apart = replace(one, study="two", problem="p", verdict="worse", ratio=2.0, low=1.5, high=3.0)
    near = replace(one, study="three", verdict="undecided", ratio=0.8, low=0.55, high=1.2)
    found = repeats([one, apart, near], {"one": 0, "two": 1, "three": 2})
    assert found["overlap"].tolist() == [False, True] and found["same_verdict"].tolist() == [False, False]
    assert repeats([one, apart], {"one": 0, "two": 0}).empty
    assert repeats([one, replace(apart, trials=3)], {"one": 0, "two": 1}).empty  # another tuning budget


def test_a_second_study_of_a_problem_adds_its_other_methods() -> None:
    """The second study has SGD again, AdamW alone, and HJ, of which the first has no result yet."""
    one = Cell("one", "p", "p", 9.0, "sgd", "SGD", role="baseline", verdict="baseline", level=8.0)
    begun = replace(one, method="hj", title="HJ", role="candidate", verdict="no claim", level=math.nan)
    again = replace(one, study="two", level=9.0)
    adamw = replace(again, method="adamw", title="AdamW", role="candidate", verdict="better", level=4.0, ratio=0.5)
    wide = replace(adamw, space="wide")
    done = replace(begun, study="two", verdict="worse", level=16.0, ratio=2.0)
    cells = [one, begun, again, adamw, wide, done, replace(adamw, study="three"), replace(done, budget=10.0)]
    # By their texts: from Python 3.13 on, dataclasses that hold NaN are not equal.
    assert repr(once(cells)) == repr([one, adamw, wide, done, replace(done, budget=10.0)])
    table = relative(cells[:6]).set_index("method")
    assert table["relative"].to_dict() == {"sgd": 9 / 4, "adamw": 1.0, "hj": 4.0}  # SGD's own study has 8, not 9
    rows = [Row("two", "p", "p", "", budget=9.0)]
    assert observations(rows, cells[:6])["method"].tolist() == ["adamw", "hj"]
    lost = [replace(cell, verdict="no claim") if cell.method == "hj" else cell for cell in cells[:6]]
    assert observations(rows, lost)["method"].tolist() == ["adamw"]
