"""Real images, decoded once to uint8: torchvision's data sets, read from where they are, and folders of one's own.

Files are looked for in `data_dir`, in the layout that torchvision uses, and nowhere else. Only `download` fetches any.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import tempfile
import zlib
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from relaxbench.errors import UserError, unknown
from relaxbench.problems.data.cache import cache_dir, cached
from relaxbench.problems.data.folders import ARCHIVES, LAYOUT, ImageFolder
from relaxbench.problems.data.images import Images, first_line


class Source(Hashable, Protocol):
    """Where labelled images come from.

    Attributes:
        name: short, as in the names of problems.
        title: as people write it.
        layout: which files it consists of, for people.
        held_out: share of the training images that is kept for validation, where there is no split for that.
        classes: how many. Folders are read for it.
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
        """``"train"``, ``"test"`` and maybe ``"validation"``; a `UserError` if they are not there or damaged."""
        ...

    def download(self) -> None:
        """Fetch it into the data folder; a `UserError` if that fails."""
        ...


@dataclass(frozen=True)
class Published:
    """A data set that torchvision knows: its files, its layout, its download.

    Attributes:
        cls: name of torchvision's class.
        places: its folders or files below the data folder.
    """

    name: str
    title: str
    cls: str
    places: tuple[str, ...]
    classes: int = 10
    held_out: float = 0.1

    @property
    def layout(self) -> str:
        """Where its files lie, for people."""
        return " and ".join(self.places)

    def published(self) -> dict[str, Images]:
        """The published ``"train"`` and ``"test"`` images.

        Raises:
            UserError: if they are not there, saying where they are looked for and how to get them; if a file is
                damaged.
        """
        folder = data_dir()
        tensors = cached(self.name, _files(self, folder), lambda: _decode(self, folder))
        return {split: Images(tensors[f"{split}.x"], tensors[f"{split}.y"]) for split in ("train", "test")}

    def present(self, folder: Path) -> bool:
        """Whether a folder has something of it."""
        places = [folder / place for place in self.places]
        return any(place.is_file() or (place.is_dir() and any(place.iterdir())) for place in places)

    def download(self) -> None:
        """Fetch it into the data folder with torchvision, unless it is there.

        Raises:
            UserError: if that fails.
        """
        folder = data_dir()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.redirect_stderr(io.StringIO()):  # torchvision's bar of progress
                _torchvision(self, folder, download=True)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"{self.title} cannot be downloaded into {str(folder)!r} ({first_line(error)}): put its files there "
                f"yourself, as {self.layout}"
            ) from None


@dataclass(frozen=True)
class Yours:
    """Images that are not public: whoever has them names their folder."""

    problem: str
    name: str = "yours"
    title: str = "images of your own"
    layout: str = LAYOUT
    held_out: float = 0.1
    classes: int = 1000

    def published(self) -> dict[str, Images]:
        """There are none yet.

        Raises:
            UserError: always, saying how to name them.
        """
        raise UserError(
            f"problem {self.problem!r} needs images of your own: name a folder or an archive with {self.layout}, "
            f"as {self.problem}:FOLDER"
        )

    def download(self) -> None:
        """Nobody else has them."""
        self.published()


SOURCES: dict[str, Published] = {
    source.name: source
    for source in (
        Published("mnist", "MNIST", "MNIST", ("MNIST/raw",), held_out=1 / 6),
        Published("fashion-mnist", "Fashion-MNIST", "FashionMNIST", ("FashionMNIST/raw",), held_out=1 / 6),
        Published("cifar10", "CIFAR-10", "CIFAR10", ("cifar-10-batches-py",)),
        Published("cifar100", "CIFAR-100", "CIFAR100", ("cifar-100-python",), 100),
        Published("svhn", "SVHN", "SVHN", ("train_32x32.mat", "test_32x32.mat")),
    )
}


def data_dir() -> Path:
    """``$RELAXBENCH_DATA``, or ``data`` in relaxbench's cache folder."""
    return Path(os.environ.get("RELAXBENCH_DATA") or cache_dir() / "data")


def in_data_dir(path: str) -> Path:
    """A path as it stands if there is something, else below the data folder."""
    return Path(path) if Path(path).exists() else data_dir() / path


def source(name: str, size: int | None = None) -> Source:
    """The source of a name of `SOURCES`, or the `ImageFolder` of a path (absolute, or below the data folder).

    Args:
        name: one or the other.
        size: of the images of a folder, see there.

    Raises:
        UserError: if it is no name and does not look like a path. Whether a path is good is seen when it is read.
    """
    if name in SOURCES:
        return SOURCES[name]
    path = in_data_dir(name)
    if not path.exists() and "/" not in name and not name.endswith(ARCHIVES):
        place = f"nor is there a folder or an archive of images of that name in {str(data_dir())!r}"
        raise unknown("data set", name, SOURCES, place)
    return ImageFolder(path, size)


def _files(source: Published, folder: Path) -> str:
    """Names, sizes and times of the files of a source: what is decoded is decoded again when they change."""
    places = [folder / place for place in source.places]
    paths = [path for place in places for path in ([place] if place.is_file() else sorted(place.glob("*")))]
    stats = [(path.name, path.stat()) for path in paths]
    return " ".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)


def _decode(source: Published, folder: Path) -> dict[str, Tensor]:
    if not source.present(folder):
        raise UserError(
            f"{source.title} is not in {str(folder)!r}: name the folder that holds {source.layout} (--data-dir or "
            "RELAXBENCH_DATA), or fetch it with --download"
        )
    with _unpacked(source, folder) as place:
        try:
            return _torchvision(source, place)
        except Exception as error:  # torchvision has no errors of its own: whatever damaged files make of themselves
            raise _damaged(source, folder, error) from error


def _torchvision(source: Published, folder: Path, download: bool = False) -> dict[str, Tensor]:
    from torchvision import datasets

    tensors: dict[str, Tensor] = {}
    for split in ("train", "test"):
        which = {"split": split} if source.cls == "SVHN" else {"train": split == "train"}
        data = getattr(datasets, source.cls)(folder, download=download, **which)
        x = torch.as_tensor(data.data)
        if x.dim() == 3:
            x = x[:, None]
        elif source.cls != "SVHN":  # CIFAR is kept with the channels last
            x = x.permute(0, 3, 1, 2)
        y = torch.as_tensor(data.labels if source.cls == "SVHN" else data.targets, dtype=torch.int64)
        if len(x) != len(y) or not len(y):
            raise ValueError(f"{len(x):,} {split} images and {len(y):,} labels")
        if x.dtype != torch.uint8 or not 0 <= int(y.min()) <= int(y.max()) < source.classes:
            raise ValueError(f"{split} images of {x.dtype} with labels from {int(y.min())} to {int(y.max())}")
        tensors |= {f"{split}.x": x.contiguous(), f"{split}.y": y}
    return tensors


@contextmanager
def _unpacked(source: Published, folder: Path) -> Iterator[Path]:
    """The data folder, or a passing one with those files unpacked that torchvision wants unpacked."""
    raw = folder / source.places[0]
    packed = [path for path in sorted(raw.glob("*-ubyte.gz")) if not path.with_suffix("").exists()]
    if not packed:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="relaxbench-") as passing:
        place = Path(passing) / source.places[0]
        place.mkdir(parents=True)
        for path in sorted(raw.glob("*-ubyte")):
            (place / path.name).symlink_to(path.absolute())
        for path in packed:
            try:
                with gzip.open(path) as whole, (place / path.stem).open("wb") as file:
                    shutil.copyfileobj(whole, file)
            except (OSError, EOFError, zlib.error) as error:
                raise _damaged(source, folder, error, path.name) from None
        yield Path(passing)


def _damaged(source: Published, folder: Path, error: Exception, file: str = "") -> UserError:
    what = f", {file}," if file else ""
    return UserError(
        f"{source.title} in {str(folder)!r}{what} is incomplete or damaged ({first_line(error)}): delete the files in "
        f"{source.layout} and fetch them again"
    )
