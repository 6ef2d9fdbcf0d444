"""The page: every cell with its sign, links to reports, sorting, and nothing that names could break."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from relaxbench.analysis.sentences import ratio
from relaxbench.atlas.page import write_atlas
from tests.atlas.studies import table, write
from tests.atlas.test_sources import PLAN
from tests.barriers import barriers
from tests.browser import Visit, wide

HOSTILE = "<script>alert('x')</script>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished study and a second seed, an unfinished one with an odd name, and a plan."""
    write(tmp_path / "a.db")
    write(tmp_path / "b.db", name="again", fill=1)
    write(tmp_path / "c.db", name=HOSTILE, fill=2, finished=False, description=HOSTILE)
    (tmp_path / "long.json").write_text(json.dumps(PLAN))
    return tmp_path


def test_the_page_shows_every_cell_and_links_the_reports_beside_it(folder: Path) -> None:
    atlas, cells = table(folder)
    out = folder / "out"
    out.mkdir()
    (out / "digits.html").write_text("the study's report")
    page, *others = write_atlas(atlas, out)
    text = page.read_text()
    tables = {"cells", "rows", "studies", "profiles", "relative", "traits", "repeats"}
    assert {path.stem for path in others if path.suffix == ".csv"} == tables
    manifests = [json.loads(path.read_text()) for path in others if path.suffix == ".json"]
    assert [each["specification"]["seed"] for each in manifests] == [0, 1, 2]
    assert all("origins" not in each["manifest"] for each in manifests)  # paths of somebody's machine
    matrix = text[text.index('<table class="atlas">') :]
    matrix = matrix[: matrix.index("</table>")]
    assert matrix.count("<tr>") == 5 and matrix.count('class="cell better"') == 3
    for _, cell in cells[cells["low"].notna()].iterrows():
        assert f"{ratio(cell['low'])} to {ratio(cell['high'])}" in matrix
    assert 'href="digits.html"' in matrix and matrix.count("href=") == 1  # the others have no report here
    assert matrix.count("not run") == 2 and "unfinished:" in matrix and "before its first look" in matrix
    assert HOSTILE not in text and len(text) < 5_000_000
    assert "9 differences" not in text and f"Over the atlas: of the {atlas.tests} differences" in text


def test_two_pages_of_the_same_studies_are_identical(folder: Path) -> None:
    pages = [write_atlas(table(folder)[0], folder / name)[0].read_bytes() for name in ("one", "two")]
    assert pages[0] == pages[1]


def test_columns_sort_and_the_page_fits_a_telephone(folder: Path, visit: Visit) -> None:
    page_file, *_ = write_atlas(table(folder)[0], folder / "out")
    page = visit.open(page_file)
    visit.picture(page, "atlas")
    head = page.locator("table.atlas thead th").nth(3)  # Hamilton–Jacobi
    values = "[...document.querySelectorAll('table.atlas tbody tr')].map(row => row.cells[3].dataset.v ?? '')"
    before = page.evaluate(values)
    for direction in ("ascending", "descending"):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == direction
        numbers = [float(value) for value in page.evaluate(values) if value]
        assert numbers == sorted(numbers, reverse=direction == "descending")
        assert page.evaluate(values)[-1] == ""  # a cell without a ratio comes last
    head.locator("button").click()
    assert page.evaluate(values) == before and re.fullmatch("none", head.get_attribute("aria-sort") or "")
    assert barriers(page) == []
    assert wide(visit.open(page_file, width=390, scheme="dark")) == 0
