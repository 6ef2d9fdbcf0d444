"""The index of a database: the question and the answer of each study, with a link to its report."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine, select

from relaxbench.analysis.findings import Findings
from relaxbench.analysis.frames import StudyFrames, load_study
from relaxbench.analysis.theory_numbers import Theorem
from relaxbench.errors import UserError
from relaxbench.pages import html
from relaxbench.report.study_page import write_report
from relaxbench.store.schema import Study
from relaxbench.store.urls import show_url
from relaxbench.util import files
from relaxbench.version import __version__

Theory = Callable[[StudyFrames], Mapping[str, Theorem]]

NAME = "index"
"""Name of the page's file, which no report can have."""


@dataclass(frozen=True)
class Entry:
    """A study as the index shows it.

    Attributes:
        name: the study's name.
        created: when it began (UTC).
        description: from the study file.
        done, planned: numbers of trials.
        headlines: title of a problem → the shortest true answer.
        report: the path of its page; None where there is none.
        failure: why there is no page, in one line.
    """

    name: str
    created: dt.datetime | None = None
    description: str = ""
    done: int = 0
    planned: int = 0
    headlines: dict[str, str] = field(default_factory=dict)
    report: Path | None = None
    failure: str = ""


def write_all(engine: Engine, directory: Path, theory: Theory = lambda _: {}) -> Iterator[Entry]:
    """Write the report of every study, one at a time, and then ``<directory>/index.html``.

    Args:
        engine: the database.
        directory: where the pages go; created if it is missing.
        theory: from a study to the theory's numbers for its problems, see `write_report`.

    Yields:
        The entry of each study, as soon as its report is written or has failed.

    Raises:
        UserError: the directory cannot be written.
    """
    page = index_page(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with engine.connect() as connection:
            studies = connection.execute(select(Study.name, Study.created_at).order_by(Study.id)).all()
        entries = []
        for name, created in studies:
            entries.append(_entry(engine, name, created, directory, theory))
            yield entries[-1]
        files.write(page, render(entries, show_url(engine.url)))
    except OSError as error:
        raise UserError(f"cannot write {str(page)!r}: {error.strerror} (choose another folder)") from error


def index_page(directory: Path) -> Path:
    """Return the path of the index."""
    return directory / f"{NAME}.html"


def render(entries: list[Entry], address: str) -> str:
    """Return the HTML text of the index.

    Args:
        entries: one per study, in order.
        address: the database's address, without its password.
    """
    templates = html.environment("relaxbench.report")
    return html.page(templates, "index.html", entries=entries, address=address, version=__version__)


def _entry(engine: Engine, name: str, created: dt.datetime | None, directory: Path, theory: Theory) -> Entry:
    """Write a study's report. A failure is kept in the entry, so that the other reports are still written."""
    try:
        frames = load_study(engine, name)
        findings = Findings.of(frames)
        headlines = dict(findings.headlines)
        if frames.repetitions > 1:
            headlines = {key: f"Called different, by repetition: {text}." for key, text in headlines.items() if text}
        return Entry(
            name,
            created,
            str(frames.spec.get("description") or ""),
            int(findings.progress["done"].sum()),
            int(findings.progress["planned"].sum()),
            {str(frames.problem(problem)["title"]): text for problem, text in headlines.items() if text},
            write_report(findings, directory, theory(frames)),
        )
    except Exception as error:  # a damaged row can raise anything
        message = next(iter(str(error).strip().splitlines()), "")
        kind = "" if isinstance(error, UserError) and message else type(error).__name__  # our own words need no type
        return Entry(name, created, failure=f"{message} ({kind})" if message and kind else message or kind)
