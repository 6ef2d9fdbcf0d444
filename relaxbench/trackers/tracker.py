"""What every tracker can do, which ones there are, and where a person wants the runs."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal, Protocol, cast, get_args
from urllib.parse import urlsplit

from relaxbench.errors import UserError, unknown

if TYPE_CHECKING:
    from relaxbench.trackers.runs import Summary, TrackedRun


TRACKERS = ("mlflow", "tensorboard", "trackio", "wandb")
"""Every tracker has the name of the module that it needs, and of the extra in pyproject.toml."""
Which = Literal["winners", "trials"]
"""The runs that are sent: those of the best settings on fresh seeds, with test results, or every finished trial."""
PROJECT = "relaxbench"
LONGEST_PROJECT = 200
SCHEMES = ("http", "https", "file", "sqlite", "postgresql", "mysql", "mssql", "databricks", "databricks-uc")
"""Of the addresses that MLflow understands."""


@dataclass(frozen=True)
class Destination:
    """Where the runs of a study go.

    Attributes:
        to: name of a tracker.
        project: name of the project there (MLflow: experiment; TensorBoard: a folder).
        runs: which ones.
        where: an address or a folder; empty for the tracker's own choice, see docs/trackers.md.
    """

    to: str
    project: str = PROJECT
    runs: Which = "winners"
    where: str = ""

    @property
    def options(self) -> list[str]:
        """The options of ``relaxbench log`` that say the same."""
        own = ["--to", self.to]
        own += ["--project", self.project] if self.project != PROJECT else []
        own += ["--runs", self.runs] if self.runs != "winners" else []
        return [*own, *(["--where", self.where] if self.where else [])]


class Tracker(Protocol):
    """A place for runs. Every method may raise any exception: of a full disk, a network, a server."""

    def missing(self, runs: Iterable[TrackedRun]) -> list[TrackedRun]:
        """Return those of these runs of one study that the tracker does not have, or not whole."""
        ...

    def send(self, run: TrackedRun) -> None:
        """Send a run that is missing; what is there of an interrupted one is replaced or continued."""
        ...

    def summarize(self, summary: Summary) -> None:
        """Send the summary of a study, in place of the one that is there."""
        ...

    @property
    def place(self) -> str:
        """Where the runs go, for people, without passwords."""
        ...


def check_destination(destination: Destination) -> None:
    """Check that a destination names a tracker and a project, in characters that names and addresses have.

    Raises:
        UserError: naming the nearest tracker, or what is wrong.
    """
    if destination.to not in TRACKERS:
        raise unknown("tracker", destination.to, TRACKERS)
    if destination.runs not in get_args(Which):
        raise unknown("choice of runs", destination.runs, get_args(Which))
    project, where = destination.project, destination.where
    if not project.strip():
        raise UserError(f"project {project!r}: expected a name, such as {PROJECT!r}", "project")
    if not project.isprintable() or len(project) > LONGEST_PROJECT:
        raise UserError(
            f"project {project!r}: expected at most {LONGEST_PROJECT} printable characters, without line breaks",
            "project",
        )
    if destination.to == "wandb" and project.count("/") > 1:
        raise UserError(f"project {project!r}: expected PROJECT, or ENTITY/PROJECT for a team of W&B", "project")
    if destination.to == "tensorboard" and ("/" in project or project.strip(". ") == ""):
        raise UserError(f"project {project!r}: expected the name of a folder, without /; WHERE is its place", "project")
    if not where.isprintable():
        raise UserError(f"where {where!r}: expected an address or a folder, without line breaks", "where")
    scheme = where.partition("://")[0].partition("+")[0].lower() if "://" in where else ""
    if scheme and scheme not in (SCHEMES if destination.to == "mlflow" else ()):
        known = f"expected a folder or {', '.join(SCHEMES)}" if destination.to == "mlflow" else "expected a folder"
        raise UserError(f"where {where!r}: {known}", "where")
    if scheme in ("http", "https") and not urlsplit(where).hostname:
        raise UserError(f"where {where!r}: expected the name of a server, such as http://localhost:5000", "where")
    if where and not scheme and os.path.isfile(where):  # not Path: a name may be too long
        raise UserError(f"where {where!r}: expected a folder, and this is a file", "where")


def installed(module: str) -> bool:
    """Return whether a module can be imported, without importing it."""
    return importlib.util.find_spec(module) is not None


def require(destination: Destination) -> None:
    """Check that a tracker exists, and that its library is installed.

    Raises:
        UserError: naming the nearest tracker, or the extra to install.
    """
    check_destination(destination)
    if not installed(destination.to):
        raise UserError(
            f"tracker {destination.to!r} needs the package {destination.to}, which is not installed: "
            f"pip install 'relaxbench[{destination.to}]'"
        )


def open_tracker(destination: Destination) -> Tracker:
    """Return the tracker of a destination; nothing is sent yet.

    Raises:
        UserError: as `require`.
    """
    require(destination)
    module = import_module(f"relaxbench.trackers.{destination.to}")
    return cast(Tracker, module.connect(destination))


def without_password(address: str) -> str:
    """Return an address without what stands before its host."""
    return re.sub(r"//[^/@]*@", "//", address)
