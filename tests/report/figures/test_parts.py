"""The figure of parts shows the ratios to the whole method, with their intervals, and what they say."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from relaxbench.analysis.findings import Findings
from relaxbench.report import write_report
from relaxbench.report.figures.parts import parts, worths
from relaxbench.report.figures.verdicts import forest
from tests.analysis.test_worth import EFFECTS, PARTS, taken_apart
from tests.report.figures.looks import DIGITS, look_of


def test_the_ratios_are_those_of_the_study() -> None:
    """Made with 8 %, 4 % and 2 % of test error against 4 %."""
    frames = taken_apart()
    results = Findings.of(frames).results
    table = worths(results).set_index("method")
    assert table["part"].to_dict() == PARTS and set(table["whole"]) == {"hj"}
    for method, effect in EFFECTS.items():
        assert table.loc[method, "low"] < 1 + effect / 4 < table.loc[method, "high"]
        assert table.loc[method, "ratio"] == pytest.approx(1 + effect / 4, rel=0.1)
    assert table["worth"].to_dict() | {"no-noise": ""} == {
        "no-scoping": "helps",
        "no-averaging": "harms",
        "no-noise": "",
    }
    figure = parts(results, look_of(frames), DIGITS)
    assert figure is not None
    marks = figure.figure.data
    assert [mark["name"] for mark in marks] == ["averaging", "noise", "γ scoping"]  # from below
    for mark, row in zip(reversed(marks), table.itertuples(), strict=True):
        ends = mark["x"][0] + np.array([-mark["error_x"]["arrayminus"][0], mark["error_x"]["array"][0]])
        assert ends == pytest.approx([row.low, row.high], rel=1e-5) and mark["x"][0] == pytest.approx(
            row.ratio, rel=1e-6
        )
    assert "times Hamilton–Jacobi's test error without the part" in figure.figure.layout["xaxis"]["title"]["text"]
    assert "right of 1 the part helps" in figure.reading and "±0.5 points" in figure.reading
    assert forest(results, look_of(frames), DIGITS) is None  # all of it is drawn here


def test_parts_of_several_methods_name_theirs() -> None:
    frames = taken_apart(baseline="sgd", methods=["sgd", "hj", "heat", *PARTS])
    frames.spec["method"]["no-noise"] = {"against": "heat", "without": "noise"}
    results = Findings.of(frames).results
    figure = parts(results, look_of(frames), DIGITS)
    assert figure is not None and "times the whole method's" in figure.figure.layout["xaxis"]["title"]["text"]
    labels = figure.figure.layout["yaxis"]["ticktext"]
    assert [*labels] == ["Hamilton–Jacobi:<br>averaging", "HEAT:<br>noise", "Hamilton–Jacobi:<br>γ scoping"]
    bands = [shape for shape in figure.figure.layout["shapes"] if shape["type"] == "rect"]
    table = worths(results)
    assert sorted(box["x0"] for box in bands) == sorted(table["band_low"]) and table["band_low"].nunique() == 2
    assert "±0.5 points, for every method at its own level" in figure.reading
    whole = forest(results, look_of(frames), DIGITS)
    assert whole is not None and [mark["name"] for mark in whole.figure.data] == ["HEAT", "Hamilton–Jacobi"]


def test_nothing_is_drawn_of_whole_methods() -> None:
    frames = taken_apart()
    results = [result for result in Findings.of(frames).results if not result.without]
    assert parts(results, look_of(frames), DIGITS) is None and worths(results).empty


def test_the_page_has_a_row_per_part(tmp_path: Path) -> None:
    page = write_report(Findings.of(taken_apart()), tmp_path).read_text()
    assert "What is each part of Hamilton–Jacobi worth?" in page and "What each part is worth" in page
    for part in PARTS.values():
        assert re.search(rf'<tr><th scope="row"><bdi[^>]*>{part}</bdi></th>\s*<td><bdi[^>]*>Something else<', page)
    assert "γ scoping helps." in page.replace("\u00a0", " ") and "Does a relaxation optimizer" not in page
