"""Public data sets of images, read and downloaded with torchvision and decoded once to uint8.

Files are read from `data_dir` alone, in the layout of torchvision. Only `Published.download` fetches any.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from relaxbench.errors import UserError
from relaxbench.problems.data.cache import cached
from relaxbench.problems.data.images import Images, first_line
from relaxbench.util.files import cache_dir


@dataclass(frozen=True)
class Published:
    """A data set that torchvision can read and download. Satisfies `sources.Source`.

    Attributes:
        name: as in the names of problems.
        title: as in a report.
        cls: name of torchvision's class.
        places: its folders or files below the data folder.
        classes: number of classes.
        held_out: share of the training images that becomes the validation split.
    """

    name: str
    title: str
    cls: str
    places: tuple[str, ...]
    classes: int = 10
    held_out: float = 0.1

    @property
    def layout(self) -> str:
        """The files of the data set, for messages."""
        return " and ".join(self.places)

    def published(self) -> dict[str, Images]:
        """Return the published ``"train"`` and ``"test"`` images.

        Raises:
            UserError: if the data folder does not have them (the message names the folder and the remedy), or if a
                file is damaged.
        """
        folder = data_dir()
        tensors = cached(self.name, _files(self, folder), lambda: _decode(self, folder))
        return {split: Images(tensors[f"{split}.x"], tensors[f"{split}.y"]) for split in ("train", "test")}

    def present(self, folder: Path) -> bool:
        """Return whether a folder has any file of this data set."""
        places = [folder / place for place in self.places]
        return any(place.is_file() or (place.is_dir() and any(place.iterdir())) for place in places)

    def download(self) -> None:
        """Download the data set into the data folder with torchvision. Do nothing if it is already complete.

        Raises:
            UserError: if the download fails.
        """
        folder = data_dir()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.redirect_stderr(io.StringIO()):  # torchvision's progress bar
                _torchvision(self, folder, download=True)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"{self.title} cannot be downloaded into {str(folder)!r} ({first_line(error)}): put its files there "
                f"yourself, as {self.layout}"
            ) from None


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
    """Return the data folder: ``$RELAXBENCH_DATA``, or ``data`` in relaxbench's cache folder."""
    return Path(os.environ.get("RELAXBENCH_DATA") or cache_dir() / "data")


def _files(source: Published, folder: Path) -> str:
    """Return names, sizes and times of a source's files: the key under which decoded images are cached."""
    places = [folder / place for place in source.places]
    paths = [path for place in places for path in ([place] if place.is_file() else sorted(place.glob("*")))]
    stats = [(path.name, path.stat()) for path in paths]
    return " ".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)


def _decode(source: Published, folder: Path) -> dict[str, Tensor]:
    if not source.present(folder):
        raise UserError(
            f"{source.title} is not in {str(folder)!r}: set RELAXBENCH_DATA to the folder that holds {source.layout}, "
            "or download it",
            "data_dir",
            "download",
        )
    with _unpacked(source, folder) as place:
        try:
            return _torchvision(source, place)
        except Exception as error:  # torchvision raises many kinds for damaged files
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
        elif source.cls != "SVHN":  # CIFAR has its channels last
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
    """Yield the data folder, or a temporary one in which gzip files are unpacked, as torchvision needs them."""
    raw = folder / source.places[0]
    packed = [path for path in sorted(raw.glob("*-ubyte.gz")) if not path.with_suffix("").exists()]
    if not packed:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="relaxbench-") as temporary:
        place = Path(temporary) / source.places[0]
        place.mkdir(parents=True)
        for path in sorted(raw.glob("*-ubyte")):
            (place / path.name).symlink_to(path.absolute())
        for path in packed:
            try:
                with gzip.open(path) as whole, (place / path.stem).open("wb") as file:
                    shutil.copyfileobj(whole, file)
            except (OSError, EOFError, zlib.error) as error:
                raise _damaged(source, folder, error, path.name) from None
        yield Path(temporary)


def _damaged(source: Published, folder: Path, error: Exception, file: str = "") -> UserError:
    what = f", {file}," if file else ""
    return UserError(
        f"{source.title} in {str(folder)!r}{what} is incomplete or damaged ({first_line(error)}): delete the files in "
        f"{source.layout} and fetch them again"
    )
