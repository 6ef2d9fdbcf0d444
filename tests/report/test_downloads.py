"""What the page's buttons save: the tables as they lie beside it, figures as numbers and as pictures."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from playwright.sync_api import Locator, Page

from relaxbench.report import StudyFrames
from tests.browser import Visit
from tests.pages.test_figure import drawn


def save(page: Page, button: Locator) -> tuple[str, bytes]:
    """Click a button that gives a file; its name and contents."""
    with page.expect_download() as waiting:
        button.click()
    return waiting.value.suggested_filename, waiting.value.path().read_bytes()


@pytest.fixture
def page(visit: Visit, digits_kinds: Path) -> Page:
    return visit.stay(digits_kinds)


def test_tables_are_the_files_beside_the_page_byte_for_byte(digits_page: Path, page: Page) -> None:
    beside = {path.name: path.read_bytes() for path in (digits_page.parent / "digits").glob("*.csv")}
    saved = dict(save(page, button) for button in page.locator("[data-packed]").all())
    assert saved == {f"digits-{name}": contents for name, contents in beside.items()}
    assert len(saved) == 7


def test_figures_give_the_numbers_that_they_were_drawn_from(digits: StudyFrames, page: Page) -> None:
    figures, there = drawn(digits), {canvas.get_attribute("id") for canvas in page.locator(".canvas").all()}
    kinds = {figure.key.split("-")[0]: figure for figure in figures if figure.key in there}
    assert kinds.keys() == {figure.key.split("-")[0] for figure in figures}
    for figure in kinds.values():
        canvas = page.locator(f"#{figure.key}")
        button = page.locator("figure.plot", has=canvas).locator("[data-format=csv]")
        for folded in page.locator("details:not([open])", has=canvas).all():
            folded.locator("> summary").click()
        name, contents = save(page, button)
        assert name == f"{figure.key}.csv"
        assert figure.data is not None
        theirs = pd.read_csv(io.BytesIO(contents)).astype(figure.data.dtypes.to_dict())
        pd.testing.assert_frame_equal(theirs, figure.data.reset_index(drop=True), check_exact=True)
    assert len(kinds) > 10


def test_pictures_are_whole_and_as_large_as_the_figure(page: Page) -> None:
    figure = page.locator("figure.plot", has=page.locator("#ratio-digits-mlp"))
    size = figure.locator(".canvas").evaluate("each => [each.clientWidth, each.clientHeight]")

    name, contents = save(page, figure.locator("[data-format=svg]"))
    assert name == "ratio-digits-mlp.svg"
    root = ElementTree.fromstring(contents)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert [round(float(root.get(side, 0))) for side in ("width", "height")] == size
    words = {"".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"HEAT", "Entropy-SGD", "Hamilton–Jacobi"} <= words

    name, contents = save(page, figure.locator("[data-format=png]"))
    assert name == "ratio-digits-mlp.png" and contents.startswith(b"\x89PNG\r\n\x1a\n")
    assert list(struct.unpack(">II", contents[16:24])) == [2 * side for side in size]  # twice as fine
