"""The page: every cell with its sign, links to reports, sorting, and nothing that names could break."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from relaxbench.analysis.sentences import ratio
from relaxbench.atlas.atlas import Atlas
from relaxbench.atlas.cells import Cell
from relaxbench.atlas.page import in_gradients, summaries, write_atlas
from relaxbench.atlas.sources import Entry
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


def test_a_typical_ratio_has_no_rows_without_a_claim() -> None:
    """Where nobody reached the tolerance the ratio is 1; where every run of SGD diverged it has no meaning."""
    one = Cell("one", "p", "p", 9.0, "hj", "HJ", verdict="better", level=1.0, ratio=0.5)
    rest = [("undecided", 0.8), ("no claim", 1.0), ("no claim", 1e-9)]
    others = [
        replace(one, problem=f"p{at}", base=f"p{at}", verdict=verdict, ratio=value)
        for at, (verdict, value) in enumerate(rest)
    ]
    (found,) = summaries(Atlas([], [one, *others], {("hj", "tuned", "default"): "HJ"}, []))
    assert found.rows == 2 and found.counts["no claim"] == 2
    assert (found.ratio, found.lowest, found.highest) == pytest.approx((0.4**0.5, 0.5, 0.8))
    (found,) = summaries(Atlas([], others[1:], {("hj", "tuned", "default"): "HJ"}, []))
    assert found.rows == 0


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (3840.0, "3,840 gradients"),
        (99_999.0, "99,999 gradients"),
        (123_456.0, "0.12 million gradients"),
        (2e9, "2,000.00 million gradients"),
    ],
)
def test_gradients_of_a_study_in_words(count: float, words: str) -> None:
    assert in_gradients(count) == words


def test_one_row_has_no_span(tmp_path: Path) -> None:
    one = write(tmp_path / "one.db")
    two = write(tmp_path / "two.db", problems=["digits-mlp", "rosenbrock"])
    for file, words in ((one, '"range">1 row<'), (two, " over 2 rows<")):
        page, *_ = write_atlas(table(file)[0], tmp_path / file.stem)
        summary = page.read_text().split('id="methods"')[1].split("</table>")[0]
        assert summary.count(words) == 3 and (" to " in summary) == (file == two)


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


def test_arms_and_spaces_of_one_rule_have_titles_of_their_own() -> None:
    """In the table, in the summary and in the files; two labels of one title are told apart by their labels."""
    hj = Cell("one", "p", "p", 9.0, "hj", "HJ", verdict="better", level=1.0, ratio=0.5)
    cells = [
        hj,
        replace(hj, study="two", arm="published"),
        replace(hj, study="three", space="wide"),
        replace(hj, study="four", space="custom"),
        replace(hj, method="mine"),
        replace(hj, method="authors", title="HJ as published", arm="published"),
        replace(hj, method="sgd", title="HJ", role="baseline"),
    ]
    entries = [
        Entry(study, study, "", [], [c for c in cells if c.study == study]) for study in ("one", "two", "three", "four")
    ]
    atlas = Atlas.of(entries)
    titles = [*atlas.columns.values()]
    assert sorted(titles) == sorted(
        ["HJ, hj", "HJ, own ranges", "HJ, mine", "HJ, wide space", "HJ, as published", "HJ as published"]
    )
    assert [each.title for each in summaries(atlas)] == titles
    assert {cell.title for cell in atlas.cells} == {*titles, "HJ"}
