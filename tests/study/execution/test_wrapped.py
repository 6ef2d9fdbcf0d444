"""A study of a wrapped optimizer, interrupted again and again, gives what an uninterrupted one gives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from relaxbench.analysis.findings import Findings
from relaxbench.report import load_study, write_report
from tests.study import tiny

METHOD = {
    "muon": {"rule": "torch:torch.optim.Muon", "fixed": {"companion_lr": 0.01}, "options": {"nesterov": False}},
}


def test_an_interrupted_study_has_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.set_engine(monkeypatch)
    monkeypatch.setattr("relaxbench.study.execution.trainer.CHECKPOINT_SECONDS", 0.0)
    study = tiny.spec(
        problems=["digits-mlp"],
        methods=["sgd", *METHOD],
        method=METHOD,
        trials=1,
        exploit=0,
        recommend=1,
        flatness=False,
    )
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    tiny.run(tmp_path / "whole", study)
    for _ in range(20):
        if not tiny.run(tmp_path / "parts", study, tiny.After(25)).stopped:
            break
    assert tiny.results(tmp_path / "parts") == tiny.results(tmp_path / "whole")
    assert len(tiny.rows(tmp_path / "whole")) == tiny.expected(study)
    database = tiny.opened(tmp_path / "whole")
    page = write_report(Findings.of(load_study(database, "tiny")), tmp_path / "reports").read_text(encoding="utf-8")
    database.dispose()
    shown = re.findall(r'<span class="range">([^<]*)</span>', page)
    named = "torch.optim.Muon, wrapped; it takes matrices, torch.optim.AdamW the other parameters"
    assert f"{named}; nesterov = False" in shown
