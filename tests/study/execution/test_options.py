"""Options of a session are set once: nothing changes them afterwards, and a device's name is parsed once."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest
import torch

from relaxbench.cli.main import main
from relaxbench.cli.supervise import LocalWorkers
from relaxbench.errors import UserError
from relaxbench.store.database import open_database
from relaxbench.study.execution import options, run
from relaxbench.study.execution.options import RunOptions, parse_device
from relaxbench.study.execution.run import StudyRun
from relaxbench.training import devices
from tests.study import tiny


@pytest.mark.parametrize("name", [field.name for field in fields(RunOptions)])
def test_options_are_frozen(name: str) -> None:
    options = RunOptions()
    with pytest.raises(FrozenInstanceError):
        setattr(options, name, getattr(options, name))


@pytest.mark.parametrize("name", [*(field.name for field in fields(RunOptions)), "options", "problems", "spec"])
def test_a_run_refuses_options_after_it_is_made(name: str, tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "study.db"))
    session = StudyRun(database, RunOptions())
    with pytest.raises(FrozenInstanceError):
        setattr(session, name, None)
    database.dispose()


def test_a_device_is_parsed_or_refused() -> None:
    assert parse_device("auto") is None
    assert parse_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="'gpu'"):
        parse_device("gpu")


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of devices that have been parsed."""
    names: list[str] = []
    original = devices.torch_device

    def counting(name: str) -> torch.device:
        names.append(name)
        return original(name)

    for module in (devices, options, run):
        monkeypatch.setattr(module, "torch_device", counting)
    return names


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize("name", ["cpu", "auto"])
def test_a_device_is_parsed_once(name: str, tmp_path: Path, parsed: list[str]) -> None:
    """For a whole session. ``"auto"`` is resolved once, when the study is open."""
    database = open_database(str(tmp_path / "study.db"))
    chosen = RunOptions(device=parse_device(name), population=3, checkpoints=tmp_path / "checkpoints")
    assert tiny.run_in(database, tiny.spec(), chosen).missing == 0
    assert parsed == [name]
    database.dispose()


@pytest.mark.usefixtures("steady")
def test_a_command_parses_a_device_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parsed: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(tiny.file(tiny.spec(looks=[6], trials=1, exploit=0, recommend=0)))
    assert main(["study", "tiny.toml", "--device", "cpu", "--no-report", "--quiet"]) == 0
    assert parsed == ["cpu"]
    assert main(["worker", "tiny", "--device", "cpu", "--quiet"]) == 0
    assert parsed == ["cpu", "cpu"]


@pytest.mark.parametrize(
    ("device", "workers", "devices", "per_device"),
    [("cpu", None, "cpu", 2), ("auto", 2, "cpu", None), ("cpu", 3, None, None)],
)
def test_local_workers_parse_each_device_once(
    device: str, workers: int | None, devices: str | None, per_device: int | None, parsed: list[str]
) -> None:
    local = LocalWorkers.parse(device, workers, devices, per_device)
    assert parsed == ["cpu"] and local.place == torch.device("cpu")
    with pytest.raises(FrozenInstanceError):
        local.workers = 1  # type: ignore[misc]
