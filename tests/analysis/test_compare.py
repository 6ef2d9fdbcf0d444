"""Two studies side by side: what is said of each and of both, and where nothing may be said."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from relaxbench.analysis.arm import Arm
from relaxbench.analysis.compare import Contrast, Side, agreement, compare, differences, only_one, sentence, welch
from relaxbench.analysis.jackknife import pseudo_values
from relaxbench.analysis.verdicts import verdicts
from relaxbench.report import load_study
from tests import synthetic

Manifest = dict[str, Any]


def study(effects: dict[str, float], seed: int, change: Callable[[Manifest], None] | None = None, **asked: Any) -> Side:
    """A study of SGD, Lookahead, HJ and HEAT, its manifest changed."""
    usual = {"methods": ["sgd", "lookahead", "hj", "heat"], "controls": ["lookahead"], "exploit": 0, "recommend": 0}
    spec = synthetic.spec(**{"trials": 3, **usual, **asked})
    about = synthetic.manifest(spec)
    if change:
        change(about)
    writer = synthetic.Writer(synthetic.memory(), spec, about)
    frames = load_study(synthetic.fill(writer, effects, spread=0.35, seed=seed))
    name = f"study-{seed}"
    return Side(name, name, replace(frames, name=name))


@pytest.fixture(scope="module")
def before() -> Side:
    return study({"hj": -2.0, "heat": 1.5}, seed=1)


@pytest.fixture(scope="module")
def after() -> Side:
    return study({"hj": 1.5, "heat": 1.5}, seed=2, looks=[8])


def of(contrasts: list[Contrast], method: str) -> Contrast:
    (contrast,) = (contrast for contrast in contrasts if contrast.one.method == method)
    return contrast


def values(side: Side, method: str, blocks: int) -> np.ndarray[Any, Any]:
    """θ̃ of a method's first blocks, by the pure function."""
    runs, explored = (
        rows[(rows["method"] == method) & (rows["block"] < blocks)].set_index(["block", "number"])
        for rows in (side.frames.confirmations, side.frames.trials.query("phase == 'explore'"))
    )
    losses = explored["value"].unstack()
    logs = np.log(runs["test_metric"]).unstack().reindex(index=losses.index, columns=losses.columns)
    return pseudo_values(losses.to_numpy(), logs.to_numpy())[0]


# What is said.


def test_each_verdict_is_its_own_studys(before: Side, after: Side) -> None:
    contrasts = compare(before, after)
    one, other = verdicts(before.frames), verdicts(after.frames)
    assert [repr(contrast.one) for contrast in contrasts] == [repr(result) for result in one]
    assert [repr(contrast.other) for contrast in contrasts] == [repr(result) for result in other]


def test_the_change_of_a_level_is_welchs(before: Side, after: Side) -> None:
    """As wide as scipy's Welch interval of both studies' pseudo-values at their latest looks, around the ratio."""
    for contrast in compare(before, after):
        results = zip((before, after), contrast.results, strict=True)
        one, other = (values(side, result.method, result.blocks) for side, result in results)
        test = stats.ttest_ind(other, one, equal_var=False).confidence_interval(0.95)
        assert math.log(contrast.high / contrast.low) == pytest.approx(test.high - test.low)
        assert contrast.low * contrast.high == pytest.approx(contrast.change**2)
        assert contrast.change == pytest.approx(contrast.other.level / contrast.one.level)


def test_arms_without_spread_or_company_have_no_interval() -> None:
    change, low, high = welch(Arm(np.array(0.0), np.array(0.0), 5), Arm(np.array(1.0), np.array(0.0), 4))
    assert change == pytest.approx(math.e) and math.isnan(low) and math.isnan(high)
    assert np.isnan(welch(None, Arm(np.array(1.0), np.array(1.0), 4))).all()


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("better", "better", "agree"),
        ("equivalent", "equivalent", "agree"),
        ("better", "worse", "contradict"),
        ("undecided", "undecided", "open"),
        ("undecided", "worse", "open"),
        ("equivalent", "better", "differ"),
        ("no claim", "better", "none"),
        ("baseline", "baseline", "none"),
    ],
)
def test_how_two_verdicts_stand_to_each_other(one: str, other: str, expected: str) -> None:
    assert agreement(one, other) == agreement(other, one) == expected


def test_a_sentence_says_what_each_study_said(before: Side, after: Side) -> None:
    contrasts = compare(before, after)
    text = sentence(of(contrasts, "hj"), before, after)
    assert text.startswith("Hamilton–Jacobi on Digits, 64-32-10 MLP: study-1 says better (0.")
    assert "; study-2 says worse (1." in text and "They contradict each other. Its test error went from 1." in text
    assert text.endswith(", of this change alone).")
    assert "They agree." in sentence(of(contrasts, "heat"), before, after)
    assert sentence(of(contrasts, "sgd"), before, after).startswith(
        "SGD on Digits, 64-32-10 MLP is the baseline of both. Its test error went from 4."
    )
    few = study({}, seed=3, looks=[3])
    text = sentence(of(compare(before, few), "hj"), before, few)
    assert "study-3 makes no claim (3 blocks, at least 6 are needed). At least one study has no verdict" in text


# Where nothing may be said.


def problem(**changes: Any) -> Callable[[Manifest], None]:
    return lambda about: about["problems"]["digits-mlp"].update(changes)


OBSTACLES: list[tuple[Callable[[Manifest], None] | None, dict[str, Any], str]] = [
    (problem(fingerprint="sha256:ffff"), {}, "the studies have different data"),
    (problem(budget=700), {}, "the studies have different budgets (600 and 700 gradients)"),
    (problem(metric="test loss", unit=""), {}, "the studies have different metrics"),
    (problem(budget=700, fingerprint=""), {}, "the studies have different data and budgets (600 and 700 gradients)"),
    (None, {"baseline": "lookahead", "controls": []}, "the studies have different baselines"),
    (None, {"looks": [2], "repetitions": 4}, "a repeated study gives rates, and no single verdict"),
    (lambda about: about["methods"]["hj"].update(rule="hot"), {}, "the studies have different rules of this name"),
    (lambda about: about["methods"]["sgd"].update(rule="hot"), {}, "the studies have different baselines"),
]
"""How the second study differs: a change of its manifest and of its study file, and the resulting obstacle."""


@pytest.mark.parametrize(("change", "asked", "expected"), OBSTACLES)
def test_what_cannot_be_compared_is_not(
    before: Side, change: Callable[[Manifest], None] | None, asked: dict[str, Any], expected: str
) -> None:
    other = study({"hj": 1.5}, 2, change, **asked)
    contrast = of(compare(before, other), "hj")
    assert contrast.obstacle == expected and contrast.agreement == "not comparable"
    assert np.isnan([contrast.change, contrast.low, contrast.high]).all()
    text = sentence(contrast, before, other)
    assert text == f"Hamilton–Jacobi on Digits, 64-32-10 MLP: not comparable, {expected}."


def test_what_only_one_has_is_listed(before: Side) -> None:
    other = study({}, 2, methods=["sgd", "hj", "entropy-sgd"], controls=[])
    assert only_one(before.frames, other.frames) == {"problems": [], "methods": ["Lookahead", "HEAT"]}
    assert only_one(other.frames, before.frames) == {"problems": [], "methods": ["Entropy-SGD"]}
    assert [contrast.one.method for contrast in compare(before, other)] == ["sgd", "hj"]
    nothing = study({}, 2, problems=["rosenbrock"])
    assert compare(before, nothing) == []


def test_only_what_differs_is_told(before: Side) -> None:
    assert differences(before.frames, before.frames).empty

    def change(about: Manifest) -> None:
        about["cpu"], about["key"] = "64 cores", "another"
        space = about["methods"]["hj"]["space"]
        about["methods"]["hj"]["space"] = {**space, "lr": {**space["lr"], "high": 2.0}}
        about["engines"]["digits-mlp"]["population"] = 8

    other = study({}, 2, change, looks=[8], margin=0.25)
    found = {(where, what): (one, two) for where, what, one, two in differences(before.frames, other.frames).values}
    assert found == {
        ("study file", "looks"): ("6, 10", "8"),
        ("study file", "margin"): ("–", "0.25"),
        ("software and machine", "cpu"): ("2 cores", "64 cores"),
        ("problem digits-mlp", "margin"): ("0.5", "0.25"),
        ("engine for digits-mlp", "population"): ("32", "8"),
        ("method hj on digits-mlp", "lr high"): ("1.0", "2.0"),
    }
