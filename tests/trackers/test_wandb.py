"""W&B's offline folder, read back record by record."""

from __future__ import annotations

import json
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relaxbench.errors import UserError
from relaxbench.trackers.runs import Summary, TrackedRun
from relaxbench.trackers.sending import Sending
from relaxbench.trackers.tracker import Destination
from tests.trackers.studies import assert_same, wanted

wandb: Any = None
"""W&B's package, which is imported for its tests alone: every process collects them, and it takes a second."""
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    global wandb
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it imports
        wandb = pytest.importorskip("wandb", reason="needs pip install 'relaxbench[wandb]'")


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for folder in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{folder}_DIR", str(tmp_path / "own"))


def records(file: Path) -> Iterator[Any]:
    """The records of a transaction log: LevelDB's format, in blocks of 32 KiB, after 7 bytes of its own."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, whole = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if (room := 32768 - place % 32768) < 7:
            place += room
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        whole, place = whole + data[place + 7 : place + 7 + length], place + 7 + length
        if kind in (1, 4):  # a whole record, or the end of one
            yield Record.FromString(whole)
            whole = b""


def read(folder: Path) -> dict[str, Any]:
    """The config and the history of a run."""
    (file,) = folder.glob("*.wandb")
    config: dict[str, Any] = {}
    history: dict[str, dict[int, float]] = {}
    about: Any = None
    for record in records(file):
        if record.HasField("run"):
            about = record.run
            config = {item.key: json.loads(item.value_json) for item in record.run.config.update}
        if record.HasField("history"):
            row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            for name, value in row.items():
                if not name.startswith("_") and isinstance(value, float | int):
                    history.setdefault(name, {})[int(row["_step"])] = value
    return {"config": config, "history": history, "run": about}


def test_an_interrupted_log_continues_and_runs_are_read_back(
    tmp_path: Path, sent_study: Path, runs: list[TrackedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    from relaxbench.trackers.wandb import WeightsAndBiases

    destination, some = Destination("wandb", project="team/mine", where=str(tmp_path)), runs[:3]
    with monkeypatch.context() as patch:  # the points of the first run are there, and its mark is not

        def refuse(self: Any, folder: Path) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(WeightsAndBiases, "_mark", refuse)
        broken = Sending(destination)
        broken.send(some)
    assert (broken.sent, broken.left) == (0, 3) and "No space left" in broken.reason
    whole = Sending(destination)
    whole.send(some)
    assert (whole.sent, whole.present, whole.reason) == (3, 0, "")
    again = Sending(destination)
    again.send(some)
    assert (again.sent, again.present) == (0, 3)
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 3
    wandb.teardown()  # its other process has then written all
    for run, row in zip(some, wanted(sent_study, ("confirm", "recommend")), strict=False):
        (folder,) = tmp_path.glob(f"wandb/offline-run-*-{run.id}")
        there = read(folder)
        assert (there["run"].run_id, there["run"].entity, there["run"].project) == (run.id, "team", "mine")
        assert {name: there["config"][name] for name in row.params} == row.params
        assert_same(there["history"], row)


def test_the_summary_is_one_run_with_its_tables_and_the_report(tmp_path: Path, summary: Summary) -> None:
    for _ in range(2):
        sending = Sending(Destination("wandb", where=str(tmp_path)))
        sending.summarize(summary)
        assert sending.reason == ""
    wandb.teardown()
    (folder,) = tmp_path.glob("wandb/offline-run-*")
    tables = {file.name.partition("_")[0]: json.loads(file.read_text()) for file in folder.rglob("*.table.json")}
    verdicts = dict(zip(tables["verdicts"]["columns"], zip(*tables["verdicts"]["data"], strict=True), strict=True))
    assert verdicts["method"] == ("sgd", "heat") and tables["ledger"]["data"][1][1] == "heat"
    (file,) = folder.glob("*.wandb")
    artifacts = [record.artifact for record in records(file) if record.HasField("artifact")]
    artifacts += [r.request.log_artifact.artifact for r in records(file) if r.request.HasField("log_artifact")]
    names = {entry.path for artifact in artifacts for entry in artifact.manifest.contents}
    assert {"report.html", "verdicts.csv"} <= names


@pytest.mark.parametrize("mode", ["disabled", "dryrun"])
def test_a_mode_that_sends_nothing_is_refused(
    mode: str, runs: list[TrackedRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    with pytest.raises(UserError, match=f"WANDB_MODE={mode} sends nothing"):
        Sending(Destination("wandb", where=str(tmp_path))).send(runs)


def test_nobody_is_asked_for_an_account(
    runs: list[TrackedRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(wandb, "login", lambda **options: options["prompt"])
    with pytest.raises(UserError, match="run wandb login, or set WANDB_MODE=offline"):
        Sending(Destination("wandb", where=str(tmp_path))).send(runs)
