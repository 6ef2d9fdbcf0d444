"""MLflow: an experiment per project, a run per run, found again by its tag.

Sent by MLflow's client alone, without its global "active run". `where` is a tracking URI; without it MLflow's own
choice holds (``MLFLOW_TRACKING_URI``, else a local file).
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# Read when mlflow is imported: no reports on its use, no addresses of runs on our output, and an error in seconds where
# a server does not answer.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from relaxbench.errors import UserError
from relaxbench.trackers.runs import Summary, TrackedRun
from relaxbench.trackers.tracker import Destination, without_password

RUN, STUDY = "relaxbench.run", "relaxbench.study"
"""Tags: the id of a run, and the group of its study."""
METRICS, PARAMS, LONGEST = 1000, 100, 6000
"""The most of one request, and the longest value of a param."""
PAGE = 1000
"""Runs of one answer."""


def connect(destination: Destination) -> Mlflow:
    """Return the tracker; see `tracker.open_tracker`."""
    try:
        return Mlflow(destination.project, destination.where or None)
    except MlflowException as error:
        if "filesystem tracking backend" not in str(error):
            raise
        where = destination.where or os.environ.get("MLFLOW_TRACKING_URI", "")
        raise UserError(
            f"where {where!r}: this version of MLflow writes into no folder: expected a server or a database, such as "
            "http://localhost:5000 or sqlite:///mlflow.db",
            "where",
        ) from None


class Mlflow:
    """Runs in an experiment of MLflow."""

    def __init__(self, project: str, address: str | None) -> None:
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # not the steps by which it creates its database
        self.project, self.client = project, MlflowClient(tracking_uri=address)
        self.unfinished: dict[str, str] = {}

    @property
    def place(self) -> str:
        """The experiment, and where it is stored."""
        return f"experiment {self.project!r} in {without_password(self.client.tracking_uri)}"

    def missing(self, runs: Iterable[TrackedRun]) -> list[TrackedRun]:
        wanted = list(runs)
        found = self._found(wanted[0].group) if wanted else {}
        self.unfinished = {id: run.info.run_id for id, run in found.items() if run.info.status != "FINISHED"}
        return [run for run in wanted if run.id not in found or run.id in self.unfinished]

    def send(self, run: TrackedRun) -> None:
        if run.id in self.unfinished:  # its points would be there twice
            self.client.delete_run(self.unfinished.pop(run.id))
        id = self._create(run.id, run.group, run.name)
        facts = {**run.params, **run.facts}
        self._log(id, facts, [(step, values) for step, values in run.rows])
        self.client.set_terminated(id)

    def summarize(self, summary: Summary) -> None:
        run = self._found(summary.group).get(summary.id)
        id = run.info.run_id if run else self._create(summary.id, summary.group, summary.name)
        known = run.data.metrics if run else {}
        changed = {key: value for key, value in summary.numbers.items() if known.get(key) != value}
        self._log(id, {} if run else summary.facts, [(summary.step, changed)])
        self.client.set_tag(id, "mlflow.note.content", "\n\n".join(summary.sentences))
        with tempfile.TemporaryDirectory() as folder:
            for name, table in {"verdicts": summary.verdicts, "ledger": summary.ledger}.items():
                file = Path(folder) / f"{name}.csv"
                table.to_csv(file, index=False)
                self.client.log_artifact(id, str(file))
        if summary.page is not None:
            self.client.log_artifact(id, str(summary.page))
        self.client.set_terminated(id)

    def _found(self, group: str) -> dict[str, Any]:
        """Return the runs of a study that are there, by our ids."""
        found, token = dict[str, Any](), None
        wanted = f"tags.`{STUDY}` = '{group.replace(chr(39), '')}'"
        while True:
            page = self.client.search_runs([self._experiment()], wanted, max_results=PAGE, page_token=token)
            found |= {run.data.tags[RUN]: run for run in page if RUN in run.data.tags}
            token = page.token
            if not token:
                return found

    def _experiment(self) -> str:
        known = self.client.get_experiment_by_name(self.project)
        return str(known.experiment_id if known else self.client.create_experiment(self.project))

    def _create(self, id: str, group: str, name: str) -> str:
        tags = {RUN: id, STUDY: group.replace("'", "")}
        return str(self.client.create_run(self._experiment(), run_name=name, tags=tags).info.run_id)

    def _log(self, id: str, facts: Mapping[str, Any], rows: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        now = int(time.time() * 1000)
        params = [Param(key, str(value)[:LONGEST]) for key, value in facts.items()]
        metrics = [Metric(key, value, now, step) for step, values in rows for key, value in values.items()]
        for start in range(0, len(params), PARAMS):
            self.client.log_batch(id, params=params[start : start + PARAMS])
        for start in range(0, len(metrics), METRICS):
            self.client.log_batch(id, metrics=metrics[start : start + METRICS])
