"""Options of a session are set once: nothing changes them afterwards, and a device's name is parsed once."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest
import torch

from relaxbench.errors import UserError
from relaxbench.store.database import open_database
from relaxbench.study.execution.options import RunOptions, parse_device
from relaxbench.study.execution.run import StudyRun
from relaxbench.training import engine as engines
from tests.study import tiny


@pytest.mark.parametrize("name", [field.name for field in fields(RunOptions)])
def test_options_are_frozen(name: str) -> None:
    options = RunOptions()
    with pytest.raises(FrozenInstanceError):
        setattr(options, name, getattr(options, name))


@pytest.mark.parametrize("name", [*(field.name for field in fields(RunOptions)), "options", "problems", "spec"])
def test_a_run_refuses_options_after_it_is_made(name: str, tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "study.db"))
    run = StudyRun(database, RunOptions())
    with pytest.raises(FrozenInstanceError):
        setattr(run, name, None)
    database.dispose()


def test_a_device_is_parsed_or_refused() -> None:
    assert parse_device("auto") is None
    assert parse_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="'gpu'"):
        parse_device("gpu")


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize("name", ["cpu", "auto"])
def test_a_device_is_parsed_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an explicit device, the name is read once for a whole session; ``"auto"`` is resolved once, at its start."""
    names: list[str] = []
    original = engines.torch_device

    def counting(given: str) -> torch.device:
        names.append(given)
        return original(given)

    monkeypatch.setattr(engines, "torch_device", counting)
    database = open_database(str(tmp_path / "study.db"))
    options = RunOptions(device=parse_device(name), population=3, checkpoints=tmp_path / "checkpoints")
    assert tiny.run_in(database, tiny.spec(), options).missing == 0
    assert names == [name]
    database.dispose()
