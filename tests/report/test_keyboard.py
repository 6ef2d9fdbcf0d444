"""The page without a mouse, and on paper."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests import browser
from tests.browser import Visit, eventually

MARK = """
    [...document.querySelectorAll("a[href], button, select, input, summary, [tabindex='0']")]
      .filter(each => !each.disabled && each.checkVisibility()).map((each, index) => { each.dataset.at = index; })
"""
FOCUS = """(() => {
  const { dataset, tagName } = document.activeElement;
  const { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(document.activeElement);
  const { left, right, top, bottom } = document.activeElement.getBoundingClientRect();
  return {
    at: Number(dataset.at), tag: tagName, seen: right > 0 && left < innerWidth && bottom > 0 && top < innerHeight,
    outline: outlineStyle === "solid" && parseFloat(outlineWidth) >= 2 && outlineColor !== "rgba(0, 0, 0, 0)",
  };
})()"""


@pytest.fixture
def page(visit: Visit, digits_kinds: Path) -> Page:
    """The page at its beginning, its table filled, nothing of it in focus."""
    page = visit.stay(digits_kinds)
    page.locator(".browse").scroll_into_view_if_needed()
    page.locator(".browse tbody tr").first.wait_for()
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    return page


def test_tab_reaches_everything_in_its_order_and_shows_where_it_is(page: Page) -> None:
    total = len(page.evaluate(MARK))
    assert total > 100
    for at in range(total):
        page.keyboard.press("Tab")
        assert page.evaluate(FOCUS) | {"tag": ""} == {"at": at, "tag": "", "seen": True, "outline": True}
    page.keyboard.press("Shift+Tab")
    assert page.evaluate(FOCUS)["at"] == total - 2


def test_the_skip_link_goes_to_the_answer(page: Page) -> None:
    link = page.locator(".skip")
    assert link.bounding_box()["x"] < 0  # type: ignore[index]
    link.focus()
    assert link.bounding_box()["x"] >= 0  # type: ignore[index]
    page.keyboard.press("Enter")
    assert page.url.endswith("#answer")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_buttons_switches_and_folded_parts_obey_the_keys(page: Page, key: str) -> None:
    page.locator("#theme").focus()
    told = page.locator("#theme").inner_text()
    page.keyboard.press(key)
    assert page.evaluate("document.documentElement.dataset.theme") == told.lower()

    button = page.locator(".switch button[aria-pressed=false]").first
    button.focus()
    button = page.locator(".switch button:focus")
    browser.remember(page)
    page.keyboard.press(key)
    assert button.get_attribute("aria-pressed") == "true"
    eventually(page, lambda: browser.changed(page) != [])

    folded = page.locator("details:not([open])", has=page.locator(".canvas")).first
    folded.locator("> summary").focus()
    folded = page.locator("details", has=page.locator("> summary:focus"))
    page.keyboard.press(key)
    assert folded.get_attribute("open") is not None
    eventually(page, lambda: browser.undrawn(page) == [])
    page.keyboard.press(key)
    assert folded.get_attribute("open") is None

    page.locator("[data-name='digits-blocks.csv']").focus()
    with page.expect_download() as saved:
        page.keyboard.press(key)
    assert saved.value.suggested_filename == "digits-blocks.csv"


def test_paper_has_no_buttons_and_sharp_figures(digits_page: Path, visit: Visit) -> None:
    page = visit.open(digits_page, 718, 1123, scheme="dark")  # A4 between margins of 1 cm
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    margins = {"top": "1cm", "right": "1cm", "bottom": "1cm", "left": "1cm"}
    contents = page.pdf(format="A4", margin=margins)
    assert contents.startswith(b"%PDF-") and len(re.findall(rb"/Type\s*/Page\b", contents)) > 3
    maps = page.locator(".main-svg .hm image").count()  # heat maps alone are bitmaps, each with its mask
    assert contents.count(b"/Subtype /Image") <= 2 * maps < page.locator("figure.plot:visible").count()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"  # as it was before

    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    visit.picture(page, "report-print")
    assert page.locator("button:visible, select:visible, input:visible, nav:visible").count() == 0
    assert page.locator("summary:visible").count() == page.locator(".lines summary").count() == 5
    assert page.locator(".lines details:not([open])").count() == 0  # paper does not open
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.wide(page) <= 0 and browser.undrawn(page) == []
