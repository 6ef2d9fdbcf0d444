"""A local page of a running study: progress counted in SQL, and its report, rewritten when trials finish."""

from __future__ import annotations

import json
import math
import mimetypes
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from sqlalchemy import Engine, func, select

from relaxbench.analysis.comparison import MethodResult
from relaxbench.analysis.findings import Findings
from relaxbench.analysis.frames import load_study
from relaxbench.analysis.sentences import sentence
from relaxbench.pages import html
from relaxbench.pages.theme import file_name
from relaxbench.report.study_page import write_report
from relaxbench.server.wsgi import respond
from relaxbench.store.facts import Manifest, method_facts, problem_facts
from relaxbench.store.schema import FINISHED, PHASES, SPOT_CHECK, Study, Trial
from relaxbench.store.studies import find_study
from relaxbench.store.transactions import read
from relaxbench.store.workers import at_work, workers
from relaxbench.study.coordination.progress import Progress, look_words, read_progress
from relaxbench.util.pause import rest

if TYPE_CHECKING:
    from wsgiref.types import StartResponse

LOOK_SECONDS = 1.0
"""Least seconds between two queries of the database, for any number of browsers."""
OLD_SECONDS = 10.0
"""Most seconds between two queries, even if they are slow."""
SHARE = 5
"""Querying and writing reports each take at most 1/SHARE of the time, because the study needs the machine."""
REST_SECONDS = 600.0
"""Longest time between two looks for news that are worth a report."""


class MethodState(TypedDict):
    """The progress of a method on a problem, as the page shows it."""

    problem: str
    method: str
    look: str
    done: int
    planned: int
    phases: dict[str, list[int]]
    """[done, planned] per phase."""
    running: int
    failed: int
    best: float | None


class WorkerState(TypedDict):
    """A worker, as the page shows it."""

    name: str
    device: str
    doing: str
    running: int
    finished: int
    silent: float
    """Seconds since the last sign of life."""
    gone: bool


class State(TypedDict):
    """The numbers of the page."""

    study: str
    finished: bool
    done: int
    planned: int
    look: str
    """The look that is being worked on, see `progress.look_words`."""
    methods: list[MethodState]
    workers: list[WorkerState]
    verdicts: list[dict[str, str]]
    """See `Reported.rows`."""
    report: str | None
    written: float | None
    failure: str


@dataclass
class Reported:
    """The last report.

    Attributes:
        rows: one per problem and method: problem, title, role, verdict and its sentence.
        page: its path; None before the first report.
        time: of writing, in seconds since the epoch.
        failure: why the last attempt failed, in one line.
    """

    rows: list[dict[str, str]] = field(default_factory=list)
    page: Path | None = None
    time: float = 0.0
    failure: str = ""


class Live:
    """The page of a running study; a WSGI application.

    Args:
        engine: the database, read only.
        name: the study's name, or None for the only study.
        directory: folder of the report.
        every: least number of seconds between two reports.

    Attributes:
        name: the study's name.
        finished: whether all trials were done at the last query.
        reported: the last report.

    Raises:
        UserError: if the study does not exist.
    """

    def __init__(self, engine: Engine, name: str | None, directory: Path, every: float) -> None:
        self.engine, self.directory, self.every = engine, directory, every
        self.study, self.name = find_study(engine, name)
        self.finished, self.reported = False, Reported()
        self._phases = _phases(self._manifest())
        self._page = html.page(
            html.environment("relaxbench.server"), "live.html", study=self.name, phases=self._phases
        ).encode()
        self._guard, self._state, self._look_at = threading.Lock(), b"", 0.0
        self._news_seen: tuple[Any, ...] = ()
        self._report_at = 0.0

    def __call__(self, environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        """Serve the page at ``/``, its numbers at ``/state.json``, and the report and its files under their names."""
        path = environ.get("PATH_INFO", "")
        if path in ("", "/"):
            return respond(start, HTTPStatus.OK, self._page, "text/html")
        if path == "/state.json":
            return respond(start, HTTPStatus.OK, self.state(), "application/json")
        file = self._files().get(path)
        if file is None:
            return respond(start, HTTPStatus.NOT_FOUND, b"there is no such page")
        return respond(start, HTTPStatus.OK, file.read_bytes(), mimetypes.guess_type(file.name)[0] or "text/plain")

    def state(self) -> bytes:
        """Return the numbers of the page as JSON; they may be up to `OLD_SECONDS` old."""
        with self._guard:
            begin = time.monotonic()
            if begin >= self._look_at:
                try:
                    self._state = json.dumps(self._look()).encode()
                except Exception as error:  # e.g. a damaged study, or a study of an older relaxbench
                    self._state = json.dumps({"failure": _line(error)}).encode()
                now = time.monotonic()
                self._look_at = now + rest(now - begin, SHARE, LOOK_SECONDS, OLD_SECONDS)
            return self._state

    def report(self) -> None:
        """Write the report if trials have finished and the last one is old enough. Show a failure on the page."""
        begin = time.monotonic()
        if begin < self._report_at:
            return
        news = self._news()
        if news != self._news_seen:
            try:
                findings = Findings.of(load_study(self.engine, self.name))
                answers = [_answer(result) for result in findings.results]
                self.reported = Reported(answers, write_report(findings, self.directory), time.time())
            except Exception as error:  # shown on the page; the next attempt may succeed
                self.reported.failure = f"the report could not be written: {_line(error)}"
            self._news_seen = news
        now = time.monotonic()
        self._report_at = now + rest(now - begin, SHARE, self.every, max(self.every, REST_SECONDS))

    def _news(self) -> tuple[Any, ...]:
        """Return a value that changes whenever a trial finishes: the number done, and the time of the last."""
        columns = (func.count(), func.max(Trial.finished_at))
        query = select(*columns).where(Trial.study_id == self.study, Trial.status.in_(FINISHED))
        return tuple(read(self.engine, lambda connection: connection.execute(query).one()))

    def _look(self) -> State:
        """Query the progress and the workers, and add the last report's verdicts."""
        manifest = self._manifest()
        counted = read_progress(self.engine, self.study)
        sessions = [worker for worker in workers(self.engine, self.study) if worker.ended_at is None]
        present = [worker for worker in sessions if at_work(worker) or worker.running]
        self.finished = bool(counted) and all(p.done >= p.total for p in counted)
        reported = self.reported
        return {
            "study": self.name,
            "finished": self.finished,
            "done": sum(p.done for p in counted),
            "planned": sum(p.total for p in counted),
            "look": look_words(counted),
            "methods": [_method(p, self._phases, manifest) for p in counted],
            "workers": [
                {
                    "name": worker.name.rpartition(":")[0] or worker.name,
                    "device": worker.device,
                    "doing": worker.doing,
                    "running": worker.running,
                    "finished": worker.finished,
                    "silent": worker.silent,
                    "gone": not at_work(worker),
                }
                for worker in present
            ],
            "verdicts": reported.rows,
            "report": None if reported.page is None else f"/{reported.page.name}",
            "written": reported.time or None,
            "failure": reported.failure,
        }

    def _manifest(self) -> Manifest:
        query = select(Study.manifest).where(Study.id == self.study)
        return read(self.engine, lambda connection: connection.scalar(query)) or Manifest()

    def _files(self) -> dict[str, Path]:
        """Map every path that may be requested to its file. No part of a request becomes part of a file's name."""
        stem = file_name(self.name)
        folder = self.directory / stem
        files = folder.iterdir() if folder.is_dir() else ()
        page = self.reported.page
        return {f"/{stem}/{file.name}": file for file in files if file.is_file()} | (
            {f"/{page.name}": page} if page else {}
        )


def _answer(result: MethodResult) -> dict[str, str]:
    """Return what the page shows of a method on a problem."""
    return {
        "problem_title": result.problem_title,
        "title": result.title,
        "role": result.role,
        "verdict": result.verdict,
        "sentence": html.tied(sentence(result)),
    }


def _line(error: Exception) -> str:
    return f"{' '.join(str(error).split())} ({type(error).__name__})"


def _phases(manifest: Manifest) -> list[str]:
    """Return the phases of a study in the order of the plan: without spot checks where nothing is pruned."""
    pruned = any("pruner" in method_facts(manifest, method)["search"] for method in manifest.get("methods", {}))
    return [phase for phase in PHASES if phase != SPOT_CHECK or pruned]


def _method(progress: Progress, phases: Sequence[str], manifest: Manifest) -> MethodState:
    """Return the progress of a method on a problem."""
    problem, method = progress.problem, progress.method
    return {
        "problem": problem_facts(manifest, problem)["title"],
        "method": method_facts(manifest, method)["title"],
        "look": progress.words,
        "done": progress.done,
        "planned": progress.total,
        "phases": {phase: [progress.phases.get(phase, 0), progress.planned.get(phase, 0)] for phase in phases},
        "running": sum(progress.running.values()),
        "failed": progress.failed,
        "best": progress.best if math.isfinite(progress.best) else None,
    }
