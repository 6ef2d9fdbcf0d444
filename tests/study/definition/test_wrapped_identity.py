"""A study of a wrapped optimizer goes on with the same steps alone: another code is refused, another version named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import Engine

from relaxbench.errors import UserError
from relaxbench.optim.wrapped import rule as wrapped
from relaxbench.store.database import open_database
from relaxbench.study.coordination.manifest import read_manifest
from relaxbench.study.definition.opening import OpenStudy, open_study
from relaxbench.study.definition.prepare import prepare
from tests.study import tiny

FILE = """
from torch.optim import Optimizer

class Mine(Optimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, {{"lr": lr}})

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.data.add_({direction}, alpha=-group["lr"])
"""


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.chdir(tmp_path)
    engine = open_database("study.db")
    yield engine
    engine.dispose()


def begin(database: Engine, **method: Any) -> OpenStudy:
    spec = tiny.spec(methods=["sgd", "mine"], method={"mine": method})
    return open_study(database, spec, "source", prepare(spec), torch.device("cpu"))


def test_an_edited_optimizer_of_a_file_is_refused(database: Engine) -> None:
    Path("mine.py").write_text(FILE.format(direction="p.grad"))
    study = begin(database, rule="torch:mine.py:Mine")
    facts = read_manifest(database, study.id)["methods"]["mine"]
    assert (facts["rule"], facts["source"]) == ("torch:mine.py:Mine", "mine.py:Mine, wrapped")
    assert not begin(database, rule="torch:mine.py:Mine").new
    Path("mine.py").write_text(FILE.format(direction="p.grad.sign().mul_(0.5)"))
    with pytest.raises(UserError, match="method 'mine': its rule takes other steps with the same hyperparameters"):
        begin(database, rule="torch:mine.py:Mine")


def test_muon_on_matrices_is_part_of_its_identity(database: Engine) -> None:
    """The quadratic on which rules are probed has no matrix."""
    method = {"rule": "torch:torch.optim.Muon"}
    spec = tiny.spec(problems=["digits-mlp"], methods=["sgd", "mine"], method={"mine": method})
    study = open_study(database, spec, "source", prepare(spec), torch.device("cpu"))
    numbers = read_manifest(database, study.id)["identity"]["methods"]["mine"]["probe"]["further"]
    assert len(numbers) == 4 * 3 + 4 + 3 * 2 * 2 * 2 and None not in numbers


def test_another_version_with_the_same_steps_is_named(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    study = begin(database, rule="torch:torch.optim.Adam")
    stored = read_manifest(database, study.id)["identity"]["methods"]["mine"]["origin"]
    assert stored == f"torch.optim.Adam (torch {torch.__version__.split('+')[0]})"
    monkeypatch.setattr(wrapped, "package_of", lambda path: "torch 99.0")
    notes = " ".join(begin(database, rule="torch:torch.optim.Adam").notes)
    assert f"method 'mine' is torch.optim.Adam (torch 99.0), was {stored} when the study began" in notes


def test_other_options_are_refused(database: Engine) -> None:
    begin(database, rule="torch:torch.optim.Adam")
    with pytest.raises(UserError, match=r"differs \(method\.mine\.options: none → \{ amsgrad = true \}"):
        begin(database, rule="torch:torch.optim.Adam", options={"amsgrad": True})


def test_another_optimizer_is_refused(database: Engine) -> None:
    begin(database, rule="torch:torch.optim.Adam")
    with pytest.raises(UserError, match="mine"):
        begin(database, rule="torch:torch.optim.NAdam")
