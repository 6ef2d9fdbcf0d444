"""Studies that have little to show, in a browser: the page opens, says what is missing, and claims nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from relaxbench.analysis.findings import Findings
from relaxbench.report import load_study, write_report
from tests import browser, synthetic
from tests.barriers import barriers
from tests.browser import Visit
from tests.synthetic import Writer, memory, spec


def empty() -> Writer:
    return Writer(memory(), spec())


def nothing_known() -> Writer:
    return Writer(memory(), {"name": "bare", "baseline": "sgd", "controls": [], "methods": [], "problems": []}, {})


def filled(**changes: object) -> Writer:
    usual = {"controls": [], "looks": [6], "trials": 2, "exploit": 0, "recommend": 0}
    writer = Writer(memory(), spec(**usual | changes))
    synthetic.fill(writer, {"hj": -3.0}, spread=0.3)
    return writer


def failed(status: str, measures: dict[str, float | None] | None = None) -> Writer:
    """Two methods whose every trial diverged (done, with the worst loss) or was given up (failed)."""
    writer = Writer(memory(), spec(methods=["sgd", "hj"], controls=[], looks=[6], trials=1, exploit=0, recommend=0))
    done, nan = status == "done", np.vstack([[100.0, 200.0], np.full((4, 2), np.nan)])
    for method in ("sgd", "hj"):
        for block in range(6):
            of_all = {"status": status, "diverged": done, "curve": nan if done else None}
            winner = writer.trial("digits-mlp", method, "explore", block, 0, 10.0 if done else None, **of_all)
            if done:
                writer.trial(
                    "digits-mlp", method, "confirm", block, 0, 10.0, parent=winner, measures=measures, **of_all
                )
    writer.close()
    return writer


STATES: dict[str, tuple[Callable[[], Writer], str, int]] = {
    "empty": (empty, "0 of 72 explore trials", 0),
    "nothing known": (nothing_known, "names no problem or no method", 0),
    "only diverged": (lambda: failed("done", {"test_metric": 1.0}), "Every confirming run diverged.", 1),
    "only failed": (lambda: failed("failed"), "0 of 6 explore trials", 0),
    "one block": (lambda: filled(methods=["sgd", "hj"], looks=[1]), "1 block, at least 6 are needed.", 3),
    "one method": (lambda: filled(methods=["sgd"]), "Measured results", 1),
    "no baseline": (lambda: filled(methods=["heat", "hj"]), "'sgd' is not among the methods", 1),
    "against itself": (
        lambda: filled(methods=["sgd", "again"], repetitions=3),
        "How often is a method called different from SGD?",
        1,
    ),
}
"""State → a study in it, words that say so, and how many figures its page has at least."""


@pytest.mark.parametrize("state", STATES)
def test_a_page_says_what_is_missing_and_claims_nothing(state: str, tmp_path: Path, visit: Visit) -> None:
    make, words, figures = STATES[state]
    page = visit.open(write_report(Findings.of(load_study(make().engine)), tmp_path), 390)
    browser.unfold(page)
    assert words in " ".join(page.locator("body").inner_text().split())
    assert page.locator(".answers :is(.better, .worse, .equivalent)").count() == 0
    assert page.locator("figure.plot").count() >= figures
    assert browser.wide(page) <= 0 and barriers(page) == []


def test_an_unfinished_study_says_so_first(tmp_path: Path, visit: Visit) -> None:
    asked = spec(methods=["sgd", "hj"], controls=[], looks=[8], trials=2, exploit=0, recommend=0)
    writer = Writer(memory(), asked)
    writer.asked = asked | {"looks": [4]}  # as far as it came
    synthetic.fill(writer, {"hj": -3.0}, spread=0.3)
    page = visit.open(write_report(Findings.of(load_study(writer.engine)), tmp_path))
    notice = page.locator("main > section").first
    assert "This study is not finished." in notice.inner_text()
    assert "Hamilton–Jacobi on digits-mlp: 8 of 16 explore trials, 7 of 14 confirming runs done." in notice.inner_text()
    assert page.locator(".answers .badge").all_inner_texts() == ["no claim"]
    assert browser.undrawn(page) == [] and page.locator("figure.plot").count() > 3
