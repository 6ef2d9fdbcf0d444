"""The index of a database: every study with its headline and its report, whatever is wrong with another one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from relaxbench.errors import UserError
from relaxbench.report.index_page import write_all
from relaxbench.store.database import open_database
from tests import browser, synthetic
from tests.barriers import barriers
from tests.browser import Visit
from tests.report.test_study_page import HOSTILE


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(str(tmp_path / "studies.db"))
    yield engine
    engine.dispose()


def add(engine: Engine, name: str, **changes: object) -> None:
    asked = synthetic.spec(name=name, methods=["sgd", "hj"], controls=[], trials=2, exploit=0, recommend=0, **changes)
    synthetic.fill(synthetic.Writer(engine, asked), {"hj": -2.0}, spread=0.35)


def test_every_study_has_its_headline_and_its_report(database: Engine, tmp_path: Path) -> None:
    add(database, "good")
    add(database, HOSTILE[0], description=HOSTILE[0])
    with database.begin() as connection:  # as of a study that goes on
        connection.execute(text("DELETE FROM relaxbench_trials WHERE study_id = 2 AND block > 3"))
        left = connection.execute(text("SELECT count(*) FROM relaxbench_trials WHERE study_id = 2")).scalar_one()
    entries = list(write_all(database, tmp_path / "out"))
    assert [(entry.done, entry.planned) for entry in entries] == [(46, 46), (left, 46)]
    # Two methods; decided at the first look of 6 blocks of 2 trials, of which the best 11 are confirmed.
    assert list(entries[0].headlines) == ["Digits, 64-32-10 MLP"]
    assert entries[0].headlines["Digits, 64-32-10 MLP"].startswith("Hamilton–Jacobi beats SGD here: 0.4")
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and HOSTILE[0] not in page
    assert "46 of 46 trials" in page and f"{left} of 46 trials, unfinished" in page and "2026-11-20" in page
    links = re.findall(r'<a href="([^"#]+)"', page)
    assert len(links) == 2 and all((tmp_path / "out" / link).is_file() for link in links)
    assert len(page) < 100_000  # it has no figure, and so does not carry what draws them


def test_a_broken_study_is_listed_with_the_reason_and_the_others_are_written(database: Engine, tmp_path: Path) -> None:
    for name in ("first", "broken", "last"):
        add(database, name)
    with database.begin() as connection:
        connection.execute(text("UPDATE relaxbench_studies SET spec = '{' WHERE name = 'broken'"))
    entries = list(write_all(database, tmp_path))
    assert [entry.report is not None for entry in entries] == [True, False, True]
    assert "study 'broken' is damaged (Expecting property name" in entries[1].failure
    assert {file.name for file in tmp_path.glob("*.html")} == {"first.html", "last.html", "index.html"}
    page = (tmp_path / "index.html").read_text()
    assert "3 studies" in page and "No report:" in page and "is damaged (Expecting property name" in page


def test_studies_that_are_called_as_files_of_the_folder_do_not_take_their_places(
    database: Engine, tmp_path: Path
) -> None:
    for name in ("a", "a.html", "index"):
        add(database, name)
    entries = list(write_all(database, tmp_path))
    pages = [entry.report for entry in entries]
    assert all(page is not None and page.is_file() for page in pages) and len({*pages}) == 3
    assert tmp_path / "a.html" in pages and (tmp_path / "a" / "verdicts.csv").is_file()
    assert "3 studies" in (tmp_path / "index.html").read_text()


def test_a_repeated_study_is_told_as_rates(database: Engine, tmp_path: Path) -> None:
    add(database, "aa", repetitions=3, looks=[6])
    (entry,) = write_all(database, tmp_path)
    assert list(entry.headlines.values()) == ["Called different, by repetition: Hamilton–Jacobi: 3 of 3."]


def test_the_index_in_a_browser_leads_to_the_reports_and_names_do_nothing(
    database: Engine, tmp_path: Path, visit: Visit
) -> None:
    add(database, HOSTILE[0], description=" ".join(HOSTILE))
    list(write_all(database, tmp_path))
    for width in (1200, 390):
        page = visit.open(tmp_path / "index.html", width)
        assert " ".join(HOSTILE).split() == page.locator(".note bdi").inner_text().split()
        assert not page.evaluate("'hacked' in window")
        assert browser.wide(page) <= 0 and barriers(page) == []
    page.get_by_role("link", name=HOSTILE[0]).click()
    page.wait_for_function("document.documentElement.dataset.drawn")
    assert page.locator("main h2").first.inner_text().startswith("Hamilton–Jacobi beats SGD")


def test_an_empty_database_has_a_page_that_says_so(database: Engine, tmp_path: Path) -> None:
    assert list(write_all(database, tmp_path)) == []
    page = (tmp_path / "index.html").read_text()
    assert "No studies yet" in page and "python -m relaxbench study" in page


def test_a_folder_that_cannot_be_written_is_told(database: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another folder"):
        list(write_all(database, tmp_path / "file" / "reports"))
