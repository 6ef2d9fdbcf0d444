"""TensorBoard's event files, read back by TensorBoard."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from relaxbench.trackers.runs import Summary, TrackedRun
from relaxbench.trackers.sending import Sending
from relaxbench.trackers.tracker import Destination
from tests.trackers.studies import assert_same, wanted

pytest.importorskip("tensorboard", reason="needs pip install 'relaxbench[tensorboard]'")


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_runs_are_read_back(tmp_path: Path, sent_study: Path, runs: list[TrackedRun]) -> None:
    sending = Sending(Destination("tensorboard", project="mine", where=str(tmp_path)))
    sending.send(runs)
    assert (sending.sent, sending.present, sending.left, sending.reason) == (len(runs), 0, 0, "")
    before, rows = files(tmp_path), wanted(sent_study, ("confirm", "recommend"))
    assert len(before) == len(rows)
    for run, row in zip(runs, rows, strict=True):
        place = f"{row.place[2]} {row.place[3]}.{row.place[4]} {run.id[:6]}"
        events = read(tmp_path / "mine" / run.group / row.place[0] / row.place[1] / place)
        tags = events.Tags()["scalars"]
        assert_same({tag: {event.step: event.value for event in events.Scalars(tag)} for tag in tags}, row)
    again = Sending(Destination("tensorboard", project="mine", where=str(tmp_path)))
    again.send(runs)
    assert (again.sent, again.present) == (0, len(runs)) and files(tmp_path) == before


def test_hyperparameters_are_those_of_the_plugin(tmp_path: Path, runs: list[TrackedRun]) -> None:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    Sending(Destination("tensorboard", where=str(tmp_path))).send(runs[:1])
    (file,) = tmp_path.rglob("events*")
    metadata = read(file.parent).summary_metadata["_hparams_/session_start_info"]
    started = HParamsPluginData.FromString(metadata.plugin_data.content).session_start_info
    params = {name: value.number_value for name, value in started.hparams.items() if value.HasField("number_value")}
    numbers = {name: value for name, value in runs[0].params.items() if not isinstance(value, str)}
    assert params == pytest.approx(numbers) and numbers
    assert started.hparams["method"].string_value == runs[0].facts["method"]


def test_the_summary_is_replaced(tmp_path: Path, summary: Summary) -> None:
    for _ in range(2):
        Sending(Destination("tensorboard", where=str(tmp_path / "tb"))).summarize(summary)
    folder = tmp_path / "tb" / "relaxbench" / summary.group
    assert sorted(path.name for path in folder.iterdir())[1:] == ["report.html", "verdicts.csv"]
    events = read(folder)
    (text,) = events.Tensors("verdicts")
    assert text.tensor_proto.string_val[0].decode() == "\n\n".join(summary.sentences)
    (ratio,) = events.Scalars("verdict/rosenbrock/heat/ratio")
    assert ratio.value == pytest.approx(summary.numbers["verdict/rosenbrock/heat/ratio"], rel=1e-6)
    assert (folder / "report.html").read_text() == "<p>The report.</p>"


def test_an_interrupted_log_continues(tmp_path: Path, runs: list[TrackedRun], monkeypatch: pytest.MonkeyPatch) -> None:
    left, replace = [4], Path.replace

    def full(self: Path, target: Path) -> Path:
        left[0] -= 1
        if not left[0]:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    sending = Sending(Destination("tensorboard", where=str(tmp_path)))
    sending.send(runs)
    assert (sending.sent, sending.left) == (3, len(runs) - 3) and "No space left" in sending.reason
    assert len(list(tmp_path.rglob("events*"))) == 3
    sending.send(runs)
    assert (sending.sent, sending.present, sending.left, sending.reason) == (len(runs), 0, 0, "")
    assert len(list(tmp_path.rglob("events*"))) == len(runs)


def test_neither_torch_nor_tensorflow_is_loaded() -> None:
    code = "import sys, relaxbench.trackers.tensorboard as t; print({'torch', 'tensorflow'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
