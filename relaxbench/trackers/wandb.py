"""Weights & Biases: a run per run, under its own id, so that W&B itself keeps it one run.

``WANDB_MODE=offline`` writes below `where` (the current folder unless it is stated), for ``wandb sync``. Of the
machine, its git repository and its terminal nothing is sent.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read when wandb is imported

import wandb

from relaxbench.errors import UserError
from relaxbench.trackers.runs import Summary, TrackedRun
from relaxbench.trackers.tracker import Destination

SENT = "relaxbench-sent"
"""A file in the folder of an offline run, and a key of the summary of an online one: it is whole."""
SECONDS = 30
"""Longest wait for an answer."""


def connect(destination: Destination) -> WeightsAndBiases:
    """Return the tracker; see `tracker.open_tracker`.

    Raises:
        UserError: if W&B is turned off, or would ask for an account.
    """
    mode = os.environ.get("WANDB_MODE", "online")
    if mode not in ("online", "offline"):
        raise UserError(f"WANDB_MODE={mode} sends nothing: leave it out, or set it to offline")
    if mode == "online" and not wandb.login(prompt=False, timeout=SECONDS):
        raise UserError("W&B knows no account here: run wandb login, or set WANDB_MODE=offline to write files")
    return WeightsAndBiases(destination.project, Path(destination.where or "."), mode == "offline")


class WeightsAndBiases:
    """Runs in a project of W&B; ``ENTITY/PROJECT`` names a team's."""

    def __init__(self, project: str, folder: Path, offline: bool) -> None:
        self.entity, _, self.project = project.rpartition("/")
        self.folder, self.offline = folder, offline

    @property
    def place(self) -> str:
        """The project, and the folder of an offline one."""
        return f"project {self.project!r}" + (f" in {self.folder / 'wandb'} (offline)" if self.offline else "")

    def missing(self, runs: Iterable[TrackedRun]) -> list[TrackedRun]:
        wanted = list(runs)
        known = self._offline() if self.offline else self._online(wanted[0].group) if wanted else set()
        return [run for run in wanted if run.id not in known]

    def send(self, run: TrackedRun) -> None:
        self._forget(run.id)
        with self._begun(run.id, run.name, run.group, str(run.facts["phase"]), {**run.params, **run.facts}) as there:
            for step, values in run.rows:
                there.log(values, step=step)
            there.summary[SENT] = True
            folder = Path(there.settings.sync_dir)
        self._mark(folder)

    def summarize(self, summary: Summary) -> None:
        self._forget(summary.id)
        with self._begun(summary.id, summary.name, summary.group, "verdicts", summary.facts) as there:
            tables = {name: wandb.Table(dataframe=table.astype(str)) for name, table in summary.tables.items()}
            there.log(tables, step=summary.step)
            there.summary.update({**summary.numbers, "sentences": list(summary.sentences)})
            artifact = wandb.Artifact(f"report-{summary.id}", type="report")
            with artifact.new_file("verdicts.csv", encoding="utf-8") as file:
                summary.verdicts.to_csv(file, index=False)
            if summary.page is not None:
                artifact.add_file(str(summary.page), name="report.html")
            there.log_artifact(artifact)
            folder = Path(there.settings.sync_dir)
        self._mark(folder)

    def _begun(self, id: str, name: str, group: str, kind: str, facts: Mapping[str, Any]) -> Any:
        """Begin a run, or continue the one of this id, without anything but what is logged."""
        settings = wandb.Settings(
            **{"console": "off", "silent": True, "disable_git": True, "disable_code": True, "save_code": False},
            **{"x_disable_meta": True, "x_disable_stats": True, "x_disable_machine_info": True},
            **{"x_save_requirements": False, "init_timeout": SECONDS},
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        place = {"project": self.project, "entity": self.entity or None, "dir": self.folder}
        about = {"id": id, "name": name[:128], "group": group[:128], "job_type": kind, "config": dict(facts)}
        return wandb.init(**place, **about, resume="allow", reinit="finish_previous", settings=settings)

    def _offline(self) -> set[str]:
        """Return the ids of the runs that are whole in the folder."""
        return {json.loads(file.read_text()) for file in self.folder.glob(f"wandb/offline-run-*/{SENT}")}

    def _online(self, group: str) -> set[str]:
        """Return the ids of a study's runs that are whole at W&B."""
        path = f"{self.entity}/{self.project}" if self.entity else self.project
        try:
            runs = list(wandb.Api(timeout=SECONDS).runs(path, filters={"group": group[:128]}))
        except ValueError:  # there is no such project yet
            return set()
        return {run.id for run in runs if run.state == "finished" and run.summary.get(SENT)}

    def _forget(self, id: str) -> None:
        """Delete what an interrupted attempt left in the folder, or an earlier summary."""
        if self.offline:
            for folder in self.folder.glob(f"wandb/offline-run-*-{id}"):
                shutil.rmtree(folder)

    def _mark(self, folder: Path) -> None:
        if self.offline:
            (folder / SENT).write_text(json.dumps(folder.name.rpartition("-")[2]))
