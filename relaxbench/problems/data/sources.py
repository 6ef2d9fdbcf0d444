"""Sources of labelled images: a public data set, a folder or archive, or one that the user still has to name."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from relaxbench.errors import UserError, unknown
from relaxbench.problems.data.archives import ARCHIVES
from relaxbench.problems.data.folders import LAYOUT, ImageFolder
from relaxbench.problems.data.images import Images
from relaxbench.problems.data.published import SOURCES, data_dir


class Source(Hashable, Protocol):
    """A source of labelled images.

    Attributes:
        name: short, as in the names of problems.
        title: as in a report.
        layout: the files that it consists of, for messages.
        held_out: share of the training images that becomes the validation split, if the source has none.
        classes: number of classes. For a folder, its images are read.
    """

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def layout(self) -> str: ...
    @property
    def held_out(self) -> float: ...
    @property
    def classes(self) -> int: ...

    def published(self) -> dict[str, Images]:
        """Return the splits of the source: ``"train"``, ``"test"`` and, if it has one, ``"validation"``.

        Raises:
            UserError: if the files are missing or damaged.
        """
        ...

    def download(self) -> None:
        """Download the files into the data folder.

        Raises:
            UserError: if that fails or is not possible.
        """
        ...


@dataclass(frozen=True)
class UserImages:
    """Images that are not public and that the user has not named yet. Satisfies `Source`.

    Attributes:
        problem: the problem that needs them.
    """

    problem: str
    name: str = "yours"
    title: str = "your own images"
    layout: str = LAYOUT
    held_out: float = 0.1
    classes: int = 1000

    def published(self) -> dict[str, Images]:
        """Raise: the user must name the images.

        Raises:
            UserError: always. The message shows how to name them.
        """
        raise UserError(
            f"problem {self.problem!r} needs your own images: name a folder or an archive with {self.layout}, "
            f"as {self.problem}:FOLDER"
        )

    def download(self) -> None:
        """Raise: they are not public.

        Raises:
            UserError: always.
        """
        self.published()


def in_data_dir(path: str) -> Path:
    """Return a path as it is if it exists, else the same path below the data folder."""
    return Path(path) if Path(path).exists() else data_dir() / path


def source(name: str, size: int | None = None) -> Source:
    """Return the public data set of a name, or the `ImageFolder` of a path.

    Args:
        name: a name of `published.SOURCES`, or a path, absolute or below the data folder.
        size: height and width to which images of a folder are scaled, see `ImageFolder`.

    Raises:
        UserError: if it is not a name and does not look like a path. The content of a path is checked when it is read.
    """
    if name in SOURCES:
        return SOURCES[name]
    path = in_data_dir(name)
    if not path.exists() and "/" not in name and not name.endswith(ARCHIVES):
        place = f"nor is there a folder or an archive of images of that name in {str(data_dir())!r}"
        raise unknown("data set", name, SOURCES, place)
    return ImageFolder(path, size)
