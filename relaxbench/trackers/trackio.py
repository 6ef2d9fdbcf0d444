"""Trackio: a run per run in a local database, which ``trackio show`` opens and ``trackio sync`` copies to a Space.

`where` is the folder of the database (Trackio's own choice unless it is stated).
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from relaxbench.errors import UserError
from relaxbench.trackers.runs import Summary, TrackedRun
from relaxbench.trackers.tracker import Destination

REMOTE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")


def connect(destination: Destination) -> Trackio:
    """Return the tracker; see `tracker.open_tracker`.

    Raises:
        UserError: if Trackio is set to send runs elsewhere, where they could not be found again.
    """
    remote = next((name for name in REMOTE if os.environ.get(name)), None)
    if remote:
        raise UserError(
            f"{remote} is set, and relaxbench writes Trackio's local database: leave it out, and copy the project "
            "with trackio sync"
        )
    if destination.where:
        os.environ["TRACKIO_DIR"] = destination.where  # read when trackio is imported
    return Trackio(destination.project)


class Trackio:
    """Runs in a project of Trackio."""

    def __init__(self, project: str) -> None:
        import trackio
        from trackio.sqlite_storage import SQLiteStorage

        self.project, self.trackio, self.storage = project, trackio, SQLiteStorage
        SQLiteStorage.validate_project_name(project)

    @property
    def place(self) -> str:
        """The project, and the folder of its database."""
        return f"project {self.project!r} in {self.storage.get_project_db_path(self.project).parent}"

    def missing(self, runs: Iterable[TrackedRun]) -> list[TrackedRun]:
        ends = self._ends()  # a run's points are written in order
        return [run for run in runs if ends.get(run.name, -1) < run.end]

    def send(self, run: TrackedRun) -> None:
        self.storage.delete_run(self.project, run.name)  # of an interrupted attempt
        self._log(run.name, run.group, {**run.params, **run.facts}, run.rows)

    def summarize(self, summary: Summary) -> None:
        self.storage.delete_run(self.project, self._name(summary))
        tables = {name: self.trackio.Table(dataframe=table.astype(str)) for name, table in summary.tables.items()}
        row = {**summary.numbers, **tables, "sentences": self.trackio.Markdown("\n\n".join(summary.sentences))}
        self._log(self._name(summary), summary.group, summary.facts, [(summary.step, row)], summary.page)

    def _name(self, summary: Summary) -> str:
        return f"{summary.name} {summary.id[:6]}"

    def _ends(self) -> dict[str, int]:
        """Return the last step of every run that is there, by its name."""
        if not self.storage.get_project_db_path(self.project).exists():
            return {}
        ends = self.storage.get_max_steps_for_runs(self.project)
        return {row["name"]: ends.get(row["id"], -1) for row in self.storage.get_run_records(self.project)}

    def _log(
        self,
        name: str,
        group: str,
        facts: Mapping[str, Any],
        rows: Iterable[tuple[int, Mapping[str, Any]]],
        page: Path | None = None,
    ) -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # of its dashboard
            run = self.trackio.init(
                **{"project": self.project, "name": name, "group": group, "config": dict(facts), "embed": False},
                **{"auto_log_gpu": False, "auto_log_cpu": False},
            )
            for step, values in rows:
                run.log(dict(values), step=step)
            if page is not None:
                run.log_artifact(str(page), name="report", type="report")
            run.finish()
