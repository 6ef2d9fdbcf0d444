"""`log`: send a study's runs, verdicts and report to an experiment tracker."""

from __future__ import annotations

import os
import re
import shlex
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relaxbench.cli.console import say
from relaxbench.cli.options import STORAGE, Storage, Study, reader
from relaxbench.errors import UserError
from relaxbench.util.pause import rest, sleep
from relaxbench.util.text import counted

if TYPE_CHECKING:
    from sqlalchemy import Engine as Database

    from relaxbench.analysis.findings import Findings
    from relaxbench.analysis.frames import StudyFrames
    from relaxbench.trackers.sending import Sending
    from relaxbench.trackers.tracker import Destination

EVERY = 10.0
"""Least number of seconds between two looks at a running study."""
SHARE = 20
"""A look takes at most one second in so many."""
REST_SECONDS = 600.0
"""Greatest number of seconds between two looks."""
SENT = "Sent "
"""So begins the line that says that all is sent."""
KINDNESS = 10
"""How much the process that follows a study gives way to its workers (`os.nice`)."""


def log(
    study: Study = None,
    storage: Storage = STORAGE,
    to: Annotated[
        str | None,
        typer.Option(help=r"Tracker: mlflow, tensorboard, trackio or wandb.  \[default: \[track] of the study file]"),
    ] = None,
    project: Annotated[
        str | None, typer.Option(help=r"Project there (MLflow: experiment).  \[default: relaxbench]")
    ] = None,
    runs: Annotated[
        str | None, typer.Option(help=r"winners (the best settings on fresh seeds) or trials.  \[default: winners]")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(help=r"Address of a server, or local folder.  \[default: see docs/trackers.md]"),
    ] = None,
    no_report: Annotated[bool, typer.Option("--no-report", help="Send no HTML report.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until the study is finished, or until Ctrl-C.")
    ] = False,
) -> None:
    """Send a study's runs, verdicts and report to an experiment tracker; nothing is sent twice."""
    from relaxbench.analysis.findings import Findings
    from relaxbench.analysis.frames import load_study
    from relaxbench.cli.progress import interruptible
    from relaxbench.study.coordination.supervisor import supervised
    from relaxbench.trackers.runs import summary_of, tracked_runs
    from relaxbench.trackers.sending import Sending
    from relaxbench.trackers.tracker import require

    database = reader(storage)
    frames = load_study(database, study)
    destination = _destination(frames, to, project, runs, where)
    require(destination)
    sending, supervisor = Sending(destination), _Supervisor() if follow and supervised() else None
    if supervisor is not None:
        os.nice(KINDNESS)
        _follow(sending, database, frames.name, supervisor.over)
    elif follow:
        with interruptible() as stopping:
            say(f"Following study {frames.name!r} (Ctrl-C ends it).")
            _follow(sending, database, frames.name, stopping)
    frames = load_study(database, frames.name)
    sending.send(tracked_runs(frames, destination.runs))
    with tempfile.TemporaryDirectory() as folder:
        if not sending.reason:
            findings, page = Findings.of(frames), None
            if supervisor is not None:
                page = supervisor.page
            elif not no_report:
                page = _page(findings, Path(folder))
            sending.summarize(summary_of(findings, page))
    _tell(sending, frames, _missing_trials(database, frames.name), storage)


def _destination(
    frames: StudyFrames, to: str | None, project: str | None, runs: str | None, where: str | None
) -> Destination:
    """Return where the runs go: the study's own tracker, or another one, with what is given.

    Raises:
        UserError: if no tracker is named.
    """
    from dataclasses import replace

    from relaxbench.study.definition.track import stored_destination
    from relaxbench.trackers.tracker import TRACKERS, Destination

    stored = None if to else stored_destination(frames.spec.get("track"), frames.name)
    if to is None and stored is None:
        raise UserError(f"which tracker? study {frames.name!r} has no table [track]: give --to {', '.join(TRACKERS)}")
    given: dict[str, Any] = {"project": project, "runs": runs, "where": where}
    changes = {key: value for key, value in given.items() if value is not None}
    return replace(stored or Destination(to or ""), **changes)


def _follow(sending: Sending, database: Database, name: str, over: Callable[[], bool]) -> None:
    """Send what a running study finishes, until it is finished or `over` says so."""
    from relaxbench.analysis.frames import load_study
    from relaxbench.trackers.runs import tracked_runs

    while not over() and _missing_trials(database, name):
        begin = time.monotonic()
        sending.send(tracked_runs(load_study(database, name), sending.destination.runs))
        now = time.monotonic()
        due = now + rest(now - begin, SHARE, EVERY, REST_SECONDS)
        while time.monotonic() < due and not over():
            sleep(0.2)


def _missing_trials(database: Database, name: str) -> int:
    """Return how many trials of a study are not done."""
    from relaxbench.store.studies import find_study
    from relaxbench.study.coordination.progress import read_progress

    return sum(p.total - p.done for p in read_progress(database, find_study(database, name)[0]))


def _page(findings: Findings, folder: Path) -> Path:
    """Write the report of a study into a folder; return its page."""
    from relaxbench.cli.outcome import theory
    from relaxbench.report.study_page import write_report

    return write_report(findings, folder, theory(findings.frames))


def _tell(sending: Sending, frames: StudyFrames, missing: int, storage: str) -> None:
    """Say in one line what was sent, and how many trials of the study are missing.

    Raises:
        UserError: if not all was sent, with the command that sends the rest.
    """
    name, again = frames.name, again_command(frames.name, sending.destination, storage)
    if sending.reason:
        what = f"{counted(sending.left, 'run')} and the summary" if sending.left else "the summary"
        raise UserError(f"{sending.place}: {sending.reason}; {what} of study {name!r} not sent, send later: {again}")
    before = f"; {sending.present:,} were there already" if sending.present else ""
    line = f"{SENT}{counted(sending.sent, 'run')} and the summary of study {name!r} to {sending.place}{before}."
    say(f"{line} {counted(missing, 'trial')} of the study are not done yet; later: {again}" if missing else line)


def again_command(study: str, destination: Destination, storage: str) -> str:
    """Return the command that sends what is missing; an address with a password is left to its environment variable."""
    from relaxbench.study.coordination.supervisor import supervised

    usual = (STORAGE, None if supervised() else os.environ.get("RELAXBENCH_STORAGE"))
    secret = re.search(r"//[^/@]*:[^/@]*@", storage)
    place = [] if storage in usual or secret else ["--storage", storage]
    return shlex.join(["python", "-m", "relaxbench", "log", study, *destination.options, *place])


class _Supervisor:
    """The process that runs the study: it closes our input when the study is over, or when it dies.

    Before that it writes the path of the report, if there is one.
    """

    def __init__(self) -> None:
        self._over, self._text = threading.Event(), ""
        threading.Thread(target=self._read, daemon=True).start()

    def over(self) -> bool:
        """Whether nothing more is to be waited for."""
        return self._over.is_set()

    @property
    def page(self) -> Path | None:
        """The report that was written."""
        return Path(self._text) if self._text and Path(self._text).is_file() else None

    def _read(self) -> None:
        self._text = sys.stdin.read().strip()
        self._over.set()
