"""The code of the documentation runs (docs/add-….md is tried in test_plugins.py)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from relaxbench.store.database import open_database
from tests import synthetic

PAGE = (Path(__file__).parents[1] / "docs" / "training-loops.md").read_text()
REPORT = (Path(__file__).parents[1] / "docs" / "report.md").read_text()
BLOCKS = [each for each in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "lightning" not in each]


def test_a_study_is_read_as_the_page_on_reports_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    engine = open_database("sqlite:///relaxbench.db")
    synthetic.fill(synthetic.Writer(engine, synthetic.spec(blocks=1, trials=2, exploit=0, recommend=1)))
    engine.dispose()
    (code,) = re.findall(r"```python\n(.*?)```", REPORT, re.DOTALL)
    exec(code, {})
    files = {path.name for path in (tmp_path / "folder").iterdir()}
    assert files == {f"{name}.parquet" for name in ("trials", "curves", "blocks", "recommended", "flatness")}


def test_there_are_examples() -> None:
    assert len(BLOCKS) == 3


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_an_example_runs(code: str) -> None:
    exec(code, {})
