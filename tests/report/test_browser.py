"""The report in a real browser: every figure is drawn, every button works, every download has the numbers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from relaxbench.analysis.findings import Findings
from relaxbench.report import StudyFrames, write_report
from tests import browser
from tests.analysis.test_worth import PARTS, taken_apart
from tests.barriers import COLOURS, WCAG, barriers
from tests.browser import Scheme, Visit, eventually

STAND_INS = ("rgb(1, 2, 3)", "rgb(1, 2, 4)", "rgb(1, 2, 5)", "rgb(1, 2, 6)", "rgba(1, 2, 3", "#01020")
"""Colours that templates/page.js replaces."""

PAPER = "getComputedStyle(document.body).backgroundColor"


def painted(page: Page, colours: Iterable[str]) -> list[str]:
    """Which of these colours plotly has drawn with."""
    probe = """colours => {
      const drawing = [...document.querySelectorAll(".canvas")].map(each => each.innerHTML).join();
      return colours.filter(colour => drawing.includes(colour));
    }"""
    return page.evaluate(probe, list(colours))


@pytest.fixture(scope="module")
def each_kind(both: StudyFrames, both_page: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return browser.with_each_kind(both_page, tmp_path_factory.mktemp("each") / "both.html", both.problems)


@pytest.mark.parametrize(("width", "schemes"), [(1200, ("light", "dark")), (390, ("dark", "light"))])
def test_everything_is_drawn_and_nothing_is_too_wide(
    each_kind: Path, visit: Visit, width: int, schemes: tuple[Scheme, ...]
) -> None:
    page = visit.open(each_kind, width, scheme=schemes[0])
    assert page.locator("figure.plot:visible").count() > 40
    assert 0 < page.locator(".canvas:has(.main-svg)").count() < 20  # each when a reader comes near it
    browser.unfold(page)
    assert page.locator("figure.plot:visible").count() == page.locator("figure.plot").count() > 60
    assert browser.undrawn(page) == [] and page.locator(".canvas").count() >= 30
    assert overlapping(page) == [] and below(page) == []
    for scheme, rules in zip(schemes, (WCAG, COLOURS), strict=True):
        page.emulate_media(color_scheme=scheme)
        eventually(page, lambda: painted(page, themed(page)) == themed(page))
        assert painted(page, STAND_INS) == []
        assert browser.wide(page) <= 0
        assert barriers(page, rules) == []
        visit.picture(page, f"report-{width}-{scheme}")


@pytest.fixture(scope="module")
def long_names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of methods without parts, and of whole ones with long titles; of each kind of figure two are drawn."""
    frames = taken_apart(baseline="sgd", methods=["sgd", "hj", "heat", *PARTS])
    titles = {
        "hj": "Hamilton–Jacobi of the research code & a longer warm-up",
        "heat": "Heat_by_smoothing_with_many_samples",
    }
    for method, title in titles.items():
        frames.manifest["methods"][method]["title"] = title
    folder = tmp_path_factory.mktemp("long")
    page = write_report(Findings.of(frames), folder)
    return browser.with_each_kind(page, folder / "each.html", frames.problems, 2, "no-")


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1200, "light")])
def test_no_text_of_a_figure_is_cut_and_no_name_lies_on_a_mark(
    long_names: Path, visit: Visit, width: int, scheme: Scheme
) -> None:
    page = visit.open(long_names, width, scheme=scheme)
    browser.unfold(page)
    assert cut(page) == [] and covered(page) == []
    assert page.locator("[id^=parts-] .main-svg").count() and page.locator("[id^=curve-] .main-svg").count()
    visit.picture(page, f"long-names-{width}")


def cut(page: Page) -> list[list[str]]:
    """Texts of figures that reach beyond their figure."""
    probe = """() => [...document.querySelectorAll(".canvas:has(.main-svg)")].flatMap(canvas => {
      const frame = canvas.getBoundingClientRect();
      return [...canvas.querySelectorAll(".main-svg text")].filter(each => {
        const box = each.getBoundingClientRect();
        return box.width && (box.left < frame.left - 1 || box.right > frame.right + 1
          || box.top < frame.top - 1 || box.bottom > frame.bottom + 1);
      }).map(each => [canvas.id, each.textContent]);
    })"""
    return page.evaluate(probe)


def covered(page: Page) -> list[list[str]]:
    """Names of rows in the figure of every block that lie on a mark."""
    probe = """() => [...document.querySelectorAll("[id^=blocks-]:has(.main-svg)")].flatMap(canvas => {
      const marks = [...canvas.querySelectorAll(".points path")].map(each => each.getBoundingClientRect());
      const names = [...canvas.querySelectorAll(".annotation-text, .ytick text")];
      return names.filter(name => /[A-Za-z]/.test(name.textContent)).filter(name => {
        const box = name.getBoundingClientRect();
        return marks.some(mark => Math.min(box.right, mark.right) - Math.max(box.left, mark.left) > 1
          && Math.min(box.bottom, mark.bottom) - Math.max(box.top, mark.top) > 1);
      }).map(name => [canvas.id, name.textContent]);
    })"""
    return page.evaluate(probe)


def overlapping(page: Page) -> list[list[str]]:
    """Pairs of horizontal texts at the ticks of horizontal axes, also of neighbours, that lie on each other."""
    probe = """() => [...document.querySelectorAll(".canvas")].flatMap(canvas => {
      const texts = [...canvas.querySelectorAll('g[class^="x"][class$="tick"] text')].filter(
        each => each.textContent && !/rotate\\((?!0)/.test(each.getAttribute("transform") || ""));
      const boxes = texts.map(each => [each.textContent, each.getBoundingClientRect()]);
      return boxes.flatMap(([text, a], index) => boxes.slice(index + 1).filter(([_, b]) =>
        Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
        Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1).map(([other]) => [canvas.id, text, other]));
    })"""
    return page.evaluate(probe)


def below(page: Page) -> list[str]:
    """Names of rows that stand below their row; where they have no room beside it they stand above."""
    probe = """() => [...document.querySelectorAll(".canvas")].flatMap(canvas =>
      ((canvas.layout?.yaxis?.ticktext && canvas.layout.annotations) || []).filter(each => each.yshift < 0)
        .map(each => each.text))"""
    return page.evaluate(probe)


def themed(page: Page) -> list[str]:
    """The theme's colours that figures are drawn with and that differ between light and dark."""
    probe = """names => names.map(name => {
      const body = document.body;
      body.style.outlineColor = `var(${name})`;
      return getComputedStyle(body).outlineColor;
    })"""
    return page.evaluate(probe, ["--ink", "--muted", "--line"])


@pytest.fixture
def digits_dark(visit: Visit, digits_kinds: Path) -> Page:
    return visit.stay(digits_kinds, 1300, 900, scheme="dark")


def test_the_first_screen_has_the_answer_and_the_forest(digits_dark: Page) -> None:
    page = digits_dark
    answer, forest = page.locator("main h2").first, page.locator(".canvas[id^=ratio]")
    assert "beats SGD here" in answer.inner_text()
    for part in (answer, forest):
        box = part.bounding_box()
        assert box is not None and box["y"] >= 0 and box["y"] + box["height"] <= 900
    lines = page.locator(".lines summary strong")
    assert lines.count() == 5 and all(line.bounding_box()["height"] < 30 for line in lines.all())  # names do not break


def test_every_switch_changes_its_figures_and_no_others(digits_dark: Page) -> None:
    assert browser.press_every_switch(digits_dark) > 6


def test_a_switch_changes_the_axis_with_the_traces(digits_dark: Page) -> None:
    titles = "titles => titles.map(each => each.textContent)"
    for word in ("seconds", "gradients"):
        digits_dark.locator(f".group:has(.panels) [data-axis={word}]").first.click()
        panels = digits_dark.locator(".group", has=digits_dark.locator(f"[data-axis={word}][aria-pressed=true]")).first
        shown = panels.locator(".panels .xtitle")
        eventually(digits_dark, lambda shown=shown, word=word: set(shown.evaluate_all(titles)) == {word})


def test_the_theme_button_changes_every_colour_there_and_back(digits_dark: Page) -> None:
    page = digits_dark
    browser.read_through(page)
    first = themed(page)
    for told in ("Light", "Dark"):
        old, paper = themed(page), page.evaluate(PAPER)
        assert page.locator("#theme").inner_text() == told and painted(page, old) == old
        page.locator("#theme").click()
        browser.read_through(page)
        assert painted(page, old) == []
        assert page.evaluate(PAPER) != paper
    assert themed(page) == first and painted(page, first) == first


def test_what_goes_wrong_in_a_page_is_told(visit: Visit, digits_page: Path, tmp_path: Path) -> None:
    alike = "<p>clear</p>" * 9
    mistakes = """
      <div style="background: #777"><p>on grey</p></div>
      <p style="color: #eee; background: #fff">faint</p>
      <div style="width: 3000px"><img src="https://example.org/x.png" alt=""></div>
      <script>console.error("mistake"); alert("hello"); setTimeout(() => { throw new Error("oh"); });</script>
    """
    spoilt = browser.with_one_figure(digits_page, tmp_path / "spoilt.html")
    spoilt.write_text(spoilt.read_text().replace("</main>", alike + mistakes + "</main>"))
    page = visit.open(spoilt)
    page.evaluate("document.querySelector('.canvas').replaceChildren()")
    assert browser.undrawn(page) == ["ratio-digits-mlp"]
    assert browser.wide(page) > 1500
    assert [told.split(":")[0] for told in barriers(page)] == ["color-contrast"] * 2
    with pytest.raises(AssertionError) as wrong:
        visit.check()
    told = str(wrong.value)
    for expected in ("console: mistake", "dialog: hello", "error: oh", "request: https://example.org/x.png"):
        assert expected in told


def test_without_a_browser_the_test_fails_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pytest.fail.Exception, match="install chromium"):
        browser.program()
