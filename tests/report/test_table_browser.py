"""The tables on the page against pandas: chosen, sorted, searched and turned over, by mouse and by keyboard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Page

from relaxbench.report import StudyFrames
from tests.browser import Visit, eventually, with_one_figure

ROWS = 50


def spread(folder: Path, name: str) -> pd.DataFrame:
    """A table as text, its params as columns of their own, not as JSON, as the page shows it."""
    table = pd.read_csv(folder / f"{name}.csv", dtype=str, keep_default_na=False)
    return table.drop(columns="params", errors="ignore")


def open_table(page: Page, name: str) -> None:
    """Choose a table and wait for it."""
    page.locator(".browse select").select_option(name)
    page.locator(".browse").scroll_into_view_if_needed()
    page.locator(".browse tbody tr").first.wait_for()


def cells(page: Page) -> pd.DataFrame:
    """The rows in sight, with all their digits."""
    columns, rows = page.evaluate("""[
      [...document.querySelectorAll(".browse th")].map(cell => cell.textContent.replace(/ [↑↓]$/, "")),
      [...document.querySelectorAll(".browse tbody tr")].map(row => [...row.cells].map(cell => cell.title)),
    ]""")
    return pd.DataFrame(rows, columns=columns, dtype=str)


def told(page: Page) -> str:
    return page.locator(".browse [role=status]").inner_text()


def same(page: Page, expected: pd.DataFrame) -> None:
    """The page shows exactly these rows; numbers may be written in another way."""
    found = cells(page)
    assert list(found.columns) == list(expected.columns) and len(found) == len(expected)
    for name in expected:
        ours, theirs = found[name].tolist(), expected[name].tolist()
        numbers = pd.to_numeric(expected[name], errors="coerce")
        if numbers.notna().all():
            assert np.array_equal(pd.to_numeric(found[name]), numbers)
        else:
            assert ours == theirs


@pytest.fixture(scope="module")
def opened(tab: Visit, digits_page: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return tab.open(with_one_figure(digits_page, tmp_path_factory.mktemp("tables") / "digits.html"))


@pytest.fixture
def page(opened: Page) -> Page:
    """The page, its words to search for taken out."""
    opened.locator(".browse input").fill("")
    return opened


def test_every_table_shows_its_first_rows(page: Page, digits: StudyFrames, digits_page: Path) -> None:
    for name in page.locator(".browse select").locator("option").all_inner_texts():
        table = spread(digits_page.parent / "digits", name)
        page.locator(".browse select").select_option(name)
        page.locator(".browse").scroll_into_view_if_needed()
        ending = f"of {len(table):,}" if len(table) else "no row contains all these words"
        eventually(page, lambda ending=ending: told(page).endswith(ending))
        same(page, table.head(ROWS))
    assert len(table) == len(digits.trials) > 700  # the last is of all trials


def test_columns_are_sorted_as_pandas_sorts_them(page: Page, digits_page: Path) -> None:
    table = spread(digits_page.parent / "digits", "trials")
    open_table(page, "trials")
    for column in ("value", "params_momentum", "params_gamma_start"):  # only some methods have a scope
        numbers = pd.to_numeric(table[column])
        for direction, rising in (("ascending", True), ("descending", False)):
            page.locator(".browse th button", has_text=column).first.click()
            head = page.locator(f".browse th[aria-sort={direction}]")
            assert head.count() == 1 and head.inner_text().startswith(column)
            expected = numbers.sort_values(ascending=rising, na_position="last", kind="stable").index[:ROWS]
            same(page, table.loc[expected].reset_index(drop=True))


def test_words_narrow_the_rows_and_pages_turn(page: Page, digits_page: Path) -> None:
    table = spread(digits_page.parent / "digits", "trials")
    open_table(page, "trials")
    earlier, later = page.get_by_role("button", name="Earlier rows"), page.get_by_role("button", name="Later rows")
    chosen = table[(table["method"] == "heat") & (table["phase"] == "explore") & (table["params_schedule"] == "cosine")]
    page.locator(".browse input").fill("HEAT explore  cosine")
    assert 0 < len(chosen) < 2 * ROWS
    assert told(page) == f"rows 1 to {min(ROWS, len(chosen))} of {len(chosen)}"
    page.locator(".browse input").fill("sgd-ema")
    chosen = table[table["method"] == "sgd-ema"].reset_index(drop=True)
    for first in range(0, len(chosen), ROWS):
        assert told(page) == f"rows {first + 1} to {min(first + ROWS, len(chosen))} of {len(chosen)}"
        same(page, chosen[first : first + ROWS])
        assert earlier.is_disabled() == (first == 0) and later.is_disabled() == (first + ROWS >= len(chosen))
        if later.is_enabled():
            later.click()
    earlier.click()
    assert told(page).startswith(f"rows {len(chosen) // ROWS * ROWS - ROWS + 1} to")
    page.locator(".browse input").fill("sgd-ema no such word")
    assert told(page) == "no row contains all these words" and len(cells(page)) == 0
    assert earlier.is_disabled() and later.is_disabled()


def test_all_of_it_works_by_keyboard(page: Page, digits_page: Path) -> None:
    table = spread(digits_page.parent / "digits", "blocks")
    open_table(page, "blocks")
    page.locator(".browse select").focus()
    page.keyboard.press("Tab")
    page.keyboard.type("heat")
    assert told(page) == "rows 1 to 6 of 6"
    page.keyboard.press("Tab")  # the region that scrolls
    assert page.evaluate("document.activeElement.getAttribute('role')") == "region"
    at = list(table.columns).index("value")
    for _ in range(at + 1):
        page.keyboard.press("Tab")
    for key, rising in (("Enter", True), ("Space", False)):
        page.keyboard.press(key)
        numbers = pd.to_numeric(table["value"])[table["method"] == "heat"].sort_values(ascending=rising)
        assert pd.to_numeric(cells(page)["value"]).tolist() == numbers.tolist()
        assert page.evaluate("document.activeElement.textContent").startswith("value ")  # the focus stays
    assert page.locator(".browse th[aria-sort=descending]").inner_text().startswith("value")
