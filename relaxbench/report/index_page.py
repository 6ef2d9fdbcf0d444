"""The index of a database: what each of its studies asked and found, with a link to its report."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine, select

from relaxbench.analysis.findings import Findings
from relaxbench.analysis.frames import StudyFrames, load_study, progress
from relaxbench.analysis.theory_numbers import Theorem
from relaxbench.errors import UserError
from relaxbench.pages import html
from relaxbench.pages.theme import file_name
from relaxbench.report.study_page import write_report
from relaxbench.store.schema import Study
from relaxbench.store.urls import show_url
from relaxbench.util import files
from relaxbench.version import __version__

Theory = Callable[[StudyFrames], Mapping[str, Theorem]]

NAME = "index"
"""Of the page's file; a report cannot have it."""


@dataclass(frozen=True)
class Entry:
    """A study as the index shows it.

    Attributes:
        name: of the study.
        created: when it began (UTC).
        description: from the study file.
        done, planned: trials.
        headlines: title of a problem → the shortest true answer.
        report: its page; None where there is none.
        failure: why there is none, in one line.
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
        directory: of the pages; made if it is missing.
        theory: what the theory expects on a study's problems, see `write_report`.

    Yields:
        what is known of each study, as soon as its report is written or has failed.

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
    """Where the index lies."""
    return directory / f"{NAME}.html"


def render(entries: list[Entry], shown: str) -> str:
    """The HTML text of the index.

    Args:
        entries: one per study, in order.
        shown: the database's address, for people.
    """
    templates = html.environment("relaxbench.report")
    return html.page(templates, "index.html", entries=entries, shown=shown, version=__version__)


def _entry(engine: Engine, name: str, created: dt.datetime | None, directory: Path, theory: Theory) -> Entry:
    """Write a study's report; one that cannot be reported does not keep the others from theirs."""
    if file_name(name).lower() == NAME:
        return Entry(name, created, failure="its report would have the name of this page: write it to another folder")
    try:
        frames = load_study(engine, name)
        findings, counts = Findings.of(frames), progress(frames)
        headlines = dict(findings.headlines)
        if frames.repetitions > 1:
            headlines = {name: f"Called different, by repetition: {text}." for name, text in headlines.items() if text}
        return Entry(
            name,
            created,
            str(frames.spec.get("description") or ""),
            int(counts["done"].sum()),
            int(counts["planned"].sum()),
            {str(frames.problem(each)["title"]): text for each, text in headlines.items() if text},
            write_report(findings, directory, theory(frames)),
        )
    except Exception as error:  # whatever a damaged row leads to
        said = next(iter(str(error).strip().splitlines()), "")
        return Entry(name, created, failure=f"{said} ({type(error).__name__})" if said else type(error).__name__)
