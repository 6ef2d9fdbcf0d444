"""A NaN among the test examples, which no training run sees: page and terminal say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from relaxbench.analysis.findings import Findings
from relaxbench.analysis.frames import load_study
from relaxbench.cli.outcome import verdict_lines
from tests.study import tiny

FILE = """
import torch
from torch import nn
from relaxbench.problems import SupervisedProblem
def data():
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    y, bad = x[:, :3].argmax(1), x.clone()
    bad[3, 1] = VALUE
    return {"train": (x, y), "validation": (x, y), "test": (bad, y)}
problem = SupervisedProblem("own", lambda: nn.Linear(4, 3), data, batch_size=20, rounds=2)
"""


@pytest.mark.parametrize(("value", "count"), [("float('nan')", 1), ("0.0", 0)])
def test_a_nan_among_the_test_examples_is_a_caution(
    value: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.set_engine(monkeypatch)
    file = tmp_path / "own.py"
    file.write_text(FILE.replace("VALUE", value))
    s = tiny.spec(
        problems=[str(file)], methods=["sgd", "lookahead"], looks=[1], budget=20, exploit=0, recommend=0, flatness=False
    )
    tiny.run(tmp_path, s)
    findings = Findings.of(load_study(str(tmp_path / "study.db")))
    told = [str(line) for line in verdict_lines(findings)]
    for lines in (findings.cautions, told):
        assert sum("look for NaN or infinity among the test examples" in line for line in lines) == count
