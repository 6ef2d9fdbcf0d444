"""The page of the theory, and the command that writes it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from relaxbench.cli.console import console
from relaxbench.cli.main import main
from relaxbench.errors import UserError
from relaxbench.theory.expectation import Estimate, Expectation, expect
from relaxbench.theory.page import sentence, write_page
from relaxbench.theory.scenes import SCENES, scene
from tests import browser
from tests.barriers import barriers
from tests.browser import Visit


@pytest.fixture(scope="module")
def results() -> list[Expectation]:
    """On coarse grids: an explicit scheme in the plane takes 16 times as long on one of half the spacing."""
    coarse = {"double-well": (251,), "gaussian-wells": (61, 51)}
    return [expect(replace(scene(name), steps=50, counts=counts), 300) for name, counts in coarse.items()]


@pytest.fixture(scope="module")
def page(results: list[Expectation], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(results, tmp_path_factory.mktemp("theory") / "new")


def test_the_page_is_drawn_in_a_browser_and_its_switches_work(page: Path, visit: Visit) -> None:
    opened = visit.open(page)
    for width in (1200, 390):
        browser.resize(opened, width)
        assert opened.locator(".canvas").count() == 6 and browser.undrawn(opened) == []
        assert barriers(opened) == []
    assert "γ = 1" in opened.locator(".switch button").all_inner_texts()
    assert browser.press_every_switch(opened) >= 6


def test_the_table_has_the_numbers_of_the_results(results: list[Expectation], page: Path) -> None:
    text = page.read_text()
    for result in results:
        for number in (result.slack.mean, result.slack.half, result.exact.slack, result.plain.mean, result.cost.mean):
            assert f"{number:.4f}" in text
    assert "not the implemented Entropy-SGD" in text and "300 particles" in text


def test_a_sentence_says_what_the_error_bars_allow(results: list[Expectation]) -> None:
    for mean, message in ((0.5, "It holds, by 0.5000 ± 0.1960"), (0.1, "within the error bars"), (-0.5, "violate it")):
        assert message in sentence(replace(results[0], slack=Estimate(mean, 0.1)))


def test_a_folder_that_cannot_be_written_is_reported_in_one_line(results: list[Expectation], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another folder"):
        write_page(results[:1], tmp_path / "file")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--particles", "1"], "--particles 1: expected at least 2"),
        (["--landscape", "double-wel"], "did you mean 'double-well'"),
        (["--device", "cuda:99"], "not there"),
        (["--report", "file"], "not a folder"),
    ],
)
def test_bad_input_is_reported_in_one_line_and_writes_nothing(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert main(["theory", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_command_prints_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "width", 300)
    assert main(["theory", "--landscape", "quadratic", "--particles", "200"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"It holds, by 0\.1\d+ ± 0\.\d+ \(on the grid 0\.189\d\)", out)
    assert "not the implemented Entropy-SGD" in out and (tmp_path / "reports" / "theory.html").is_file()


def test_every_scene_begins_on_its_grid_and_inside_its_window() -> None:
    for each in SCENES.values():
        grid = each.grid
        assert grid.points[grid.nearest(each.start)] == pytest.approx(each.start, abs=1e-9)
        assert all(low <= x <= high for x, (low, high) in zip(each.start, each.window, strict=True))
        assert len(each.gammas) == 3 and each.make().size == len(each.counts)
