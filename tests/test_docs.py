"""The code of the documentation runs (docs/add-….md is tried in test_plugins.py)."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from relaxbench.store.database import open_database
from tests import synthetic

PAGE = (Path(__file__).parents[1] / "docs" / "training-loops.md").read_text()
REPORT = (Path(__file__).parents[1] / "docs" / "report.md").read_text()
BLOCKS = [each for each in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "lightning" not in each]


TABLES = ("trials", "curves", "confirmations", "blocks", "recommended", "flatness")


def test_a_study_is_read_as_the_page_on_reports_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    engine = open_database("sqlite:///relaxbench.db")
    synthetic.fill(synthetic.Writer(engine, synthetic.spec(looks=[1], trials=2, exploit=0, recommend=1)))
    engine.dispose()
    (code,) = re.findall(r"```python\n(.*?)```", REPORT, re.DOTALL)
    exec(code, {})
    files = {path.name for path in (tmp_path / "folder").iterdir()}
    assert files == {f"{name}.parquet" for name in TABLES}


def test_there_are_examples() -> None:
    assert len(BLOCKS) == 3


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_an_example_runs(code: str) -> None:
    """It ends with a model in training whose weights are finite, and with what the page says of it."""
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(code, names)
    model = names["model"]
    assert model.training and all(bool(p.isfinite().all()) for p in model.parameters())
    if "saved" in names:
        saved = names["saved"]
        assert all(torch.equal(saved["model"][name], value) for name, value in model.state_dict().items())
        assert saved["optimizer"]["param_groups"] == names["optimizer"].state_dict()["param_groups"]
    if "batches" in names:
        assert model[1].num_batches_tracked == len(names["batches"]) and bool((model[1].running_mean != 0).all())
    if "loss" in names:
        assert float(names["loss"]) < math.log(2)  # that of a coin
    assert {"saved", "batches", "loss"} & names.keys()
