"""A study of a wrapped optimizer, interrupted again and again, gives what an uninterrupted one gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.study import tiny

METHOD = {
    "torch-muon": {"rule": "torch:torch.optim.Muon", "fixed": {"companion_lr": 0.01}, "options": {"nesterov": False}},
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
    sessions = 1
    while tiny.run(tmp_path / "parts", study, tiny.After(9)).stopped:
        sessions += 1
    assert 3 <= sessions <= 20
    assert tiny.results(tmp_path / "parts") == tiny.results(tmp_path / "whole")
    assert len(tiny.rows(tmp_path / "whole")) == tiny.expected(study)
