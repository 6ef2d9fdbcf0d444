"""Two studies side by side: what is said of each and of both, and where nothing may be said."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from relaxbench.analysis.compare import Contrast, Side, agreement, compare, differences, only_one, sentence, welch
from relaxbench.analysis.verdicts import verdicts
from relaxbench.report import StudyFrames, load_study
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
    return study({"hj": 1.5, "heat": 1.5}, seed=2, blocks=8)


def of(contrasts: list[Contrast], method: str) -> Contrast:
    (contrast,) = (contrast for contrast in contrasts if contrast.one.method == method)
    return contrast


def metric(frames: StudyFrames, method: str) -> np.ndarray[Any, Any]:
    return np.asarray(frames.blocks.loc[frames.blocks["method"] == method, "test_metric"])


# What is said.


def test_each_verdict_is_its_own_studys(before: Side, after: Side) -> None:
    contrasts = compare(before, after)
    one, other = verdicts(before.frames), verdicts(after.frames)
    assert [repr(contrast.one) for contrast in contrasts] == [repr(result) for result in one]
    assert [repr(contrast.other) for contrast in contrasts] == [repr(result) for result in other]


def test_the_change_of_a_mean_is_welchs(before: Side, after: Side) -> None:
    """By the textbook: standard errors add, degrees of freedom are Satterthwaite's."""
    for contrast in compare(before, after):
        one, other = (metric(side.frames, contrast.one.method) for side in (before, after))
        variances = np.array([one.var(ddof=1) / len(one), other.var(ddof=1) / len(other)])
        freedom = variances.sum() ** 2 / (variances**2 / [len(one) - 1, len(other) - 1]).sum()
        half = stats.t.ppf(0.975, freedom) * math.sqrt(variances.sum())
        change = other.mean() - one.mean()
        expected = [change, change - half, change + half]
        assert [contrast.change, contrast.low, contrast.high] == pytest.approx(expected)


def test_blocks_without_spread_or_company_have_no_interval() -> None:
    change, low, high = welch(np.full(5, 2.0), np.full(4, 3.5))
    assert change == 1.5 and math.isnan(low) and math.isnan(high)
    assert np.isnan(welch(np.array([1.0]), np.array([1.0, 2.0]))).all()
    constant, varies = np.full(5, 2.0), np.array([1.0, 2.0])
    half = stats.t.ppf(0.975, 1) * varies.std(ddof=1) / math.sqrt(2)  # the other one's alone
    assert welch(constant, varies) == pytest.approx((-0.5, -0.5 - half, -0.5 + half))


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
    assert text.startswith("Hamilton–Jacobi on Digits, 64-32-10 MLP: study-1 says better (−")
    assert "; study-2 says worse (+" in text and "They contradict each other. Its mean changed by +3." in text
    assert text.endswith(", unadjusted).")
    assert "They agree." in sentence(of(contrasts, "heat"), before, after)
    assert sentence(of(contrasts, "sgd"), before, after).startswith(
        "SGD on Digits, 64-32-10 MLP is the baseline of both. Its mean changed by"
    )
    few = study({}, seed=3, blocks=3)
    text = sentence(of(compare(before, few), "hj"), before, few)
    assert (
        "study-3 makes no claim (3 complete blocks, at least 6 are needed). At least one study has no verdict" in text
    )


# Where nothing may be said.


def problem(**changes: Any) -> Callable[[Manifest], None]:
    return lambda about: about["problems"]["digits-mlp"].update(changes)


OBSTACLES: list[tuple[Callable[[Manifest], None] | None, dict[str, Any], str]] = [
    (problem(fingerprint="sha256:ffff"), {}, "the studies have different data"),
    (problem(budget=700), {}, "the studies have different budgets"),
    (problem(metric="test loss", unit=""), {}, "the studies have different metrics"),
    (problem(budget=700, fingerprint=""), {}, "the studies have different data and budgets"),
    (None, {"baseline": "lookahead", "controls": []}, "the studies have different baselines"),
    (None, {"blocks": 2, "repetitions": 4}, "a repeated study gives rates, and no single verdict"),
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

    other = study({}, 2, change, blocks=8, margin=0.25)
    found = {(where, what): (one, two) for where, what, one, two in differences(before.frames, other.frames).values}
    assert found == {
        ("study file", "blocks"): ("10", "8"),
        ("study file", "margin"): ("–", "0.25"),
        ("software and machine", "cpu"): ("2 cores", "64 cores"),
        ("problem digits-mlp", "margin"): ("0.5", "0.25"),
        ("engine for digits-mlp", "population"): ("32", "8"),
        ("method hj on digits-mlp", "lr high"): ("1.0", "2.0"),
    }
