"""TensorBoard: one event file per run, written with TensorBoard's own records, without torch and without TensorFlow.

Files lie in ``WHERE/PROJECT/STUDY/PROBLEM/METHOD/PHASE BLOCK.NUMBER`` (`where` is ``runs`` unless it is stated). A file
has the name of its run and appears whole or not at all, so that sending a run again changes nothing.
"""

from __future__ import annotations

import io
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary as Record
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from relaxbench.trackers.runs import Summary, TrackedRun
from relaxbench.trackers.tracker import Destination

FOLDER = "runs"


def connect(destination: Destination) -> TensorBoard:
    """Return the tracker; see `tracker.open_tracker`."""
    return TensorBoard(Path(destination.where or FOLDER) / _name(destination.project))


class TensorBoard:
    """Runs as event files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def place(self) -> str:
        """The folder; ``tensorboard --logdir`` shows it."""
        return str(self.folder)

    def missing(self, runs: Iterable[TrackedRun]) -> list[TrackedRun]:
        return [run for run in runs if not self._file(run).exists()]

    def send(self, run: TrackedRun) -> None:
        facts = {key: value if isinstance(value, (str, bool)) else str(value) for key, value in run.facts.items()}
        records = [(0, hparams_pb({**run.params, **facts}, trial_id=run.id))]
        records += [(step, _scalars(values)) for step, values in run.rows]
        _write(self._file(run), records)

    def summarize(self, summary: Summary) -> None:
        file = self.folder / _name(summary.group) / f"events.out.tfevents.{summary.id}"
        texts = {"verdicts": "\n\n".join(summary.sentences), "study": _table(_listed(summary.facts))}
        texts |= {f"{name} table": _table(table) for name, table in summary.tables.items()}
        records = [(summary.step, text_pb(name, text)) for name, text in texts.items()]
        _write(file, [*records, (summary.step, _scalars(summary.numbers))])
        summary.verdicts.to_csv(file.with_name("verdicts.csv"), index=False)
        if summary.page is not None:
            shutil.copyfile(summary.page, file.with_name("report.html"))

    def _file(self, run: TrackedRun) -> Path:
        facts = run.facts
        place = f"{facts['phase']} {facts['block']}.{facts['number']} {run.id[:6]}"
        names = (run.group, str(facts["problem"]), str(facts["method"]), place)
        return self.folder.joinpath(*map(_name, names)) / f"events.out.tfevents.{run.id}"


def _write(file: Path, records: Iterable[tuple[int, Record]]) -> None:
    """Write an event file that appears whole or not at all; its name alone makes it one for TensorBoard."""
    buffer, now = io.BytesIO(), time.time()
    writer = RecordWriter(buffer)
    writer.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
    for step, record in records:
        writer.write(Event(wall_time=now, step=step, summary=record).SerializeToString())
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name("unfinished")
    part.write_bytes(buffer.getvalue())
    part.replace(file)


def _scalars(values: Mapping[str, float]) -> Record:
    return Record(value=[Record.Value(tag=tag, simple_value=value) for tag, value in values.items()])


def _listed(facts: Mapping[str, object]) -> pd.DataFrame:
    return pd.DataFrame({"key": list(facts), "value": [str(value) for value in facts.values()]})


def _table(table: pd.DataFrame) -> str:
    """Return a table as Markdown."""
    lines = [list(table.columns), ["---"] * len(table.columns)]
    lines += [["" if value is None else _cell(value) for value in row] for row in table.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")


def _name(text: str) -> str:
    """Return a name for a file: other characters than letters, digits, space, dot and hyphen become hyphens."""
    return re.sub(r"[^\w .-]", "-", text).strip(". ") or "-"
