"""A study on a local page while it runs: progress counted in SQL, and its report, written again when there is news."""

from __future__ import annotations

import json
import math
import mimetypes
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, func, select

from relaxbench.analysis.findings import Findings
from relaxbench.analysis.frames import load_study
from relaxbench.analysis.sentences import sentence
from relaxbench.pages import html
from relaxbench.pages.theme import file_name
from relaxbench.report.study_page import write_report
from relaxbench.server.wsgi import respond
from relaxbench.store.schema import Study, Trial
from relaxbench.store.studies import find
from relaxbench.store.transactions import read
from relaxbench.store.workers import at_work, workers
from relaxbench.study.coordination.plan import PHASES, Size
from relaxbench.study.coordination.progress import Progress, count

if TYPE_CHECKING:
    from wsgiref.types import StartResponse

LOOK_SECONDS = 1.0
"""Between two looks at the database, at least, however many browsers ask."""
OLD_SECONDS = 10.0
"""After this long the page looks again, however long that takes."""
SHARE = 5
"""Neither looking nor writing reports takes more than one part in so many of the time: the study needs the machine."""


@dataclass
class Reported:
    """The report that was written last.

    Attributes:
        rows: a problem x method: problem, title, role, verdict and the sentence about it.
        page: where it lies; None before the first one.
        time: when, in seconds since the epoch.
        failure: why the last attempt failed, in one line.
    """

    rows: list[dict[str, str]] = field(default_factory=list)
    page: Path | None = None
    time: float = 0.0
    failure: str = ""


class Live:
    """A study as its page shows it; a WSGI application.

    Args:
        engine: the database, read only.
        name: the study, or None for the only one.
        directory: of its report.
        every: seconds between two reports, at least.

    Attributes:
        name: the study.
        finished: whether all of it was done when the page was last looked at.
        reported: its last report.

    Raises:
        UserError: if the study does not exist.
    """

    def __init__(self, engine: Engine, name: str | None, directory: Path, every: float) -> None:
        self.engine, self.directory, self.every = engine, directory, every
        self.study, self.name = find(engine, name)
        self.finished, self.reported = False, Reported()
        self._page = html.page(
            html.environment("relaxbench.server"), "live.html", study=self.name, phases=PHASES
        ).encode()
        self._guard, self._state, self._look_at = threading.Lock(), b"", 0.0
        self._news_seen: tuple[Any, ...] = ()
        self._report_at = 0.0

    def __call__(self, environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        """The page at /, its numbers at /state.json, the report and the files that go with it under their names."""
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
        """What the page shows, as JSON; it is at most a little old."""
        with self._guard:
            begin = time.monotonic()
            if begin >= self._look_at:
                try:
                    self._state = json.dumps(self._look()).encode()
                except Exception as error:  # of a study that is damaged, or of an older relaxbench
                    self._state = json.dumps({"failure": _line(error)}).encode()
                self._look_at = time.monotonic() + max(
                    LOOK_SECONDS, min(SHARE * (time.monotonic() - begin), OLD_SECONDS)
                )
            return self._state

    def report(self) -> None:
        """Write the report if there is news and the last one is old enough. A failure is shown on the page."""
        begin = time.monotonic()
        if begin < self._report_at:
            return
        seen = self._news()
        if seen != self._news_seen:
            try:
                findings = Findings.of(load_study(self.engine, self.name))
                rows = findings.rows()
                keys = ("problem_title", "title", "role", "verdict")
                told = [{key: str(row[key]) for key in keys} | {"sentence": html.tied(sentence(row))} for row in rows]
                self.reported = Reported(told, write_report(findings, self.directory), time.time())
            except Exception as error:  # the page says so; the next attempt may do better
                self.reported.failure = f"the report could not be written: {_line(error)}"
            self._news_seen = seen
        self._report_at = time.monotonic() + max(self.every, SHARE * (time.monotonic() - begin))

    def _news(self) -> tuple[Any, ...]:
        """Changes whenever a trial is finished: how many are done, and when the last one was."""
        columns = (func.count(), func.max(Trial.finished_at))
        query = select(*columns).where(Trial.study_id == self.study, Trial.status == "done")
        return tuple(read(self.engine, lambda connection: connection.execute(query).one()))

    def _look(self) -> dict[str, Any]:
        query = select(Study.spec, Study.manifest).where(Study.id == self.study)
        asked = read(self.engine, lambda connection: connection.execute(query).one())
        size = Size.asked(asked.spec)
        places = [(problem, method) for problem in asked.spec["problems"] for method in asked.spec["methods"]]
        counted = count(self.engine, self.study, size, places)
        crew = [
            row for row in workers(self.engine, self.study) if row.ended_at is None and (at_work(row) or row.running)
        ]
        self.finished = bool(counted) and all(p.done >= p.total for p in counted)
        reported = self.reported
        return {
            "study": self.name,
            "finished": self.finished,
            "done": sum(p.done for p in counted),
            "planned": sum(p.total for p in counted),
            "methods": [_method(p, size, asked.manifest) for p in counted],
            "workers": [
                {
                    "name": row.name.rpartition(":")[0] or row.name, "device": row.device, "doing": row.doing,
                    "running": row.running, "finished": row.finished, "silent": row.silent, "gone": not at_work(row),
                }
                for row in crew
            ],
            "verdicts": reported.rows,
            "report": None if reported.page is None else f"/{reported.page.name}",
            "written": reported.time or None,
            "failure": reported.failure,
        }  # fmt: skip

    def _files(self) -> dict[str, Path]:
        """What may be asked for, by path. Nothing of a request ever becomes a part of a file's name."""
        stem = file_name(self.name)
        folder = self.directory / stem
        beside = folder.iterdir() if folder.is_dir() else ()
        page = self.reported.page
        return {f"/{stem}/{file.name}": file for file in beside if file.is_file()} | (
            {f"/{page.name}": page} if page else {}
        )


def _line(error: Exception) -> str:
    return f"{' '.join(str(error).split())} ({type(error).__name__})"


def _method(progress: Progress, size: Size, manifest: dict[str, Any]) -> dict[str, Any]:
    """How far a method on a problem is: [done, planned] by phase."""
    problem, method = progress.problem, progress.method
    return {
        "problem": manifest.get("problems", {}).get(problem, {}).get("title", problem),
        "method": manifest.get("methods", {}).get(method, {}).get("title", method),
        "done": progress.done,
        "planned": progress.total,
        "phases": {phase: [progress.phases.get(phase, 0), size.of(phase)] for phase in PHASES},
        "running": sum(progress.running.values()),
        "failed": progress.failed,
        "best": progress.best if math.isfinite(progress.best) else None,
    }
