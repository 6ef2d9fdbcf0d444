"""The page that compares two studies: which studies are meant, and what it says and draws of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relaxbench.analysis.compare import Side, compare
from relaxbench.errors import UserError
from relaxbench.report.compare_page import figure, sides, write_comparison
from relaxbench.store.database import open_database
from relaxbench.store.urls import place_of
from tests import browser, synthetic
from tests.analysis.test_compare import OBSTACLES, Manifest, of, study
from tests.barriers import barriers
from tests.browser import Visit
from tests.report.test_study_page import HOSTILE


@pytest.fixture(scope="module")
def before() -> Side:
    return study({"hj": -2.0, "heat": 1.5}, seed=1)


@pytest.fixture(scope="module")
def after() -> Side:
    return study({"hj": 1.5, "heat": 1.5}, seed=2, looks=[8])


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


@pytest.mark.parametrize(("change", "asked", "expected"), OBSTACLES)
def test_the_page_says_what_cannot_be_compared(
    before: Side, change: Callable[[Manifest], None] | None, asked: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    other = study({"hj": 1.5}, 2, change, **asked)
    contrasts = compare(before, other)
    drawn = figure(contrasts, before, other)
    assert drawn is None or "hj" not in set(drawn.data["method"])
    page = write_comparison(before, other, contrasts, tmp_path).read_text()
    assert expected in page and "contradict" not in page


def test_the_page_draws_both_studies(before: Side, after: Side, tmp_path: Path, visit: Visit) -> None:
    contrasts = compare(before, after)
    drawn = figure(contrasts, before, after)
    assert drawn is not None and len(drawn.figure.data) == 2 * 3
    results = [result for method in ("heat", "hj", "lookahead") for result in of(contrasts, method).results]
    for trace, result in zip(drawn.figure.data, results, strict=True):
        comparison = result.against("baseline")
        assert comparison is not None
        assert trace["x"][0] == pytest.approx(comparison.ratio, rel=1e-6)
        ends = [trace["error_x"][key][0] for key in ("arrayminus", "array")]
        expected = [comparison.ratio - comparison.low, comparison.high - comparison.ratio]
        assert ends == pytest.approx(expected, rel=1e-4)
    page = write_comparison(before, after, contrasts, tmp_path)
    assert page.name == "compare-study-1-study-2.html" and [each.name for each in tmp_path.iterdir()] == [page.name]
    opened = visit.open(page)
    for width in (1200, 390):
        browser.resize(opened, width)
        assert opened.locator(".canvas").count() > 0 and browser.undrawn(opened) == []
        assert barriers(opened) == []


def test_hostile_names_do_nothing(tmp_path: Path, visit: Visit) -> None:
    asked = {"methods": ["sgd", *HOSTILE], "controls": [], "looks": [6], "trials": 2}
    one, other = (replace(study({}, seed, **asked), label=f"{HOSTILE[0]}{seed}") for seed in (1, 2))
    page = visit.open(write_comparison(one, other, compare(one, other), tmp_path))
    assert browser.undrawn(page) == [] and browser.wide(page) <= 0
    assert page.locator("body").inner_text().count(HOSTILE[0]) > 2 and not page.evaluate("'hacked' in window")


def test_a_folder_that_cannot_be_written_is_told(before: Side, after: Side, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another folder"):
        write_comparison(before, after, compare(before, after), tmp_path / "file" / "reports")
