"""Two studies side by side: what is said of each and of both, and where nothing may be said."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from relaxbench.analysis.compare import Contrast, Side, agreement, compare, differences, only_one, sentence, welch
from relaxbench.analysis.verdicts import verdicts
from relaxbench.errors import UserError
from relaxbench.report import StudyFrames, load_study
from relaxbench.report.compare_page import figure, place_of, sides, write_comparison
from relaxbench.store.database import open_database
from tests import browser, synthetic
from tests.browser import Visit
from tests.report.test_study_page import HOSTILE

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


@pytest.mark.parametrize(
    ("change", "asked", "expected"),
    [
        (problem(fingerprint="sha256:ffff"), {}, "the studies have different data"),
        (problem(budget=700), {}, "the studies have different budgets"),
        (problem(metric="test loss", unit=""), {}, "the studies have different metrics"),
        (problem(budget=700, fingerprint=""), {}, "the studies have different data and budgets"),
        (None, {"baseline": "lookahead", "controls": []}, "the studies have different baselines"),
        (None, {"blocks": 2, "repetitions": 4}, "a repeated study gives rates, and no single verdict"),
        (lambda about: about["methods"]["hj"].update(rule="hot"), {}, "the studies have different rules of this name"),
        (lambda about: about["methods"]["sgd"].update(rule="hot"), {}, "the studies have different baselines"),
    ],
)
def test_what_cannot_be_compared_is_not(
    before: Side, change: Callable[[Manifest], None] | None, asked: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    other = study({"hj": 1.5}, 2, change, **asked)
    contrasts = compare(before, other)
    contrast = of(contrasts, "hj")
    assert contrast.obstacle == expected and contrast.agreement == "not comparable"
    assert np.isnan([contrast.change, contrast.low, contrast.high]).all()
    text = sentence(contrast, before, other)
    assert text == f"Hamilton–Jacobi on Digits, 64-32-10 MLP: not comparable, {expected}."
    drawn = figure(contrasts, before, other)
    assert drawn is None or "hj" not in set(drawn.data["method"])
    page = write_comparison(before, other, contrasts, tmp_path).read_text()
    assert expected in page and "contradict" not in page


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


# Which studies are meant.


def test_how_studies_are_named() -> None:
    assert place_of("digits", "here.db") == ("here.db", "digits")
    assert place_of("old.db", "here.db") == ("old.db", None)
    assert place_of("../a#b/old.db#digits", "here.db") == ("../a#b/old.db", "digits")
    assert place_of("postgresql://me@host/name#digits", "here.db") == ("postgresql://me@host/name", "digits")
    assert place_of("a#b", "here.db") == ("here.db", "a#b")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two folders with a database each, of one name, with one study, and another one in the first."""
    for folder, seed, names in (("a", 1, ("digits", "later")), ("b", 2, ("digits",))):
        (tmp_path / folder).mkdir()
        for name in names:
            engine = open_database(str(tmp_path / folder / "study.db"))
            asked = synthetic.spec(name=name, methods=["sgd", "hj"], controls=[], trials=2, exploit=0, recommend=0)
            synthetic.fill(synthetic.Writer(engine, asked), seed=seed).dispose()
    return tmp_path


def test_two_studies_have_names_that_tell_them_apart(files: Path) -> None:
    a, b = (str(files / folder / "study.db") for folder in "ab")
    first, second = sides("digits", "later", a)
    assert (first.label, second.label) == ("digits", "later") and second.stem == "later"
    first, second = sides("digits", b, a)
    assert first.label.endswith("a/study.db") and second.label.endswith("b/study.db")
    assert (first.stem, second.stem) == ("digits-one", "digits-other")
    (files / "b" / "study.db").rename(files / "b" / "new.db")
    first, second = sides(f"{a}#digits", str(files / "b" / "new.db"), "nowhere.db")
    assert (first.label, second.label) == ("digits in study.db", "digits in new.db")
    assert (first.stem, second.stem) == ("digits-study.db", "digits-new.db")


@pytest.mark.parametrize(
    ("one", "other", "message", "settings"),
    [
        ("digits", "digits", "'digits' and 'digits': both are the same study; name two different ones", ("compare",)),
        ("digits", "digist", "unknown study 'digist': did you mean 'digits'", ()),
        ("digits", "none.db", "'sqlite:///none.db' does not exist", ("storage",)),
        ("later", "{a}", "which study\\? there are 2: digits, later", ()),
    ],
)
def test_a_mistake_is_reported_in_one_line(
    files: Path, one: str, other: str, message: str, settings: tuple[str, ...]
) -> None:
    a = str(files / "a" / "study.db")
    with pytest.raises(UserError, match=message) as raised:
        sides(one, other.format(a=a), a)
    assert raised.value.settings == settings and "--" not in str(raised.value)


# The page.


def test_the_page_draws_both_studies(before: Side, after: Side, tmp_path: Path, visit: Visit) -> None:
    contrasts = compare(before, after)
    drawn = figure(contrasts, before, after)
    assert drawn is not None and len(drawn.figure.data) == 2 * 3
    results = [result for method in ("heat", "hj", "lookahead") for result in of(contrasts, method).results]
    for trace, result in zip(drawn.figure.data, results, strict=True):
        comparison = result.against("baseline")
        assert comparison is not None
        assert trace["x"][0] == pytest.approx(comparison.difference, rel=1e-6)
        assert trace["error_x"]["array"][0] == pytest.approx(comparison.high - comparison.difference, rel=1e-6)
    page = write_comparison(before, after, contrasts, tmp_path)
    assert page.name == "compare-study-1-study-2.html" and [each.name for each in tmp_path.iterdir()] == [page.name]
    for width in (1200, 390):
        opened = visit.open(page, width)
        assert opened.locator(".canvas").count() > 0 and browser.undrawn(opened) == []
        assert browser.wide(opened) <= 0 and browser.barriers(opened) == []


def test_hostile_names_do_nothing(tmp_path: Path, visit: Visit) -> None:
    asked = {"methods": ["sgd", *HOSTILE], "controls": [], "blocks": 6, "trials": 2}
    one, other = (replace(study({}, seed, **asked), label=f"{HOSTILE[0]}{seed}") for seed in (1, 2))
    page = visit.open(write_comparison(one, other, compare(one, other), tmp_path))
    assert browser.undrawn(page) == [] and browser.wide(page) <= 0
    assert page.locator("body").inner_text().count(HOSTILE[0]) > 2 and not page.evaluate("'hacked' in window")


def test_a_folder_that_cannot_be_written_is_told(before: Side, after: Side, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another folder"):
        write_comparison(before, after, compare(before, after), tmp_path / "file" / "reports")
