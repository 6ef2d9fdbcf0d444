"""Real images, decoded once to uint8: torchvision's data sets, read from where they are.

Files are looked for in `data_dir`, in the layout that torchvision uses, and nowhere else. Only `download` fetches any.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from relaxbench import random
from relaxbench.errors import UserError, unknown
from relaxbench.problems.cache import cache_dir, cached


class Images(NamedTuple):
    """Labelled images.

    Attributes:
        x: uint8 ``[N, channels, height, width]``.
        y: labels, int64 ``[N]``.
    """

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Source:
    """A data set of torchvision.

    Attributes:
        title: as people write it.
        cls: name of torchvision's class.
        places: its folders or files below the data folder.
        classes: how many.
        held_out: share of the published training set that is kept for validation.
    """

    title: str
    cls: str
    places: tuple[str, ...]
    classes: int = 10
    held_out: float = 0.1

    @property
    def layout(self) -> str:
        """Where its files lie, for people."""
        return " and ".join(self.places)


SOURCES = {
    "mnist": Source("MNIST", "MNIST", ("MNIST/raw",), held_out=1 / 6),
    "fashion-mnist": Source("Fashion-MNIST", "FashionMNIST", ("FashionMNIST/raw",), held_out=1 / 6),
    "cifar10": Source("CIFAR-10", "CIFAR10", ("cifar-10-batches-py",)),
    "cifar100": Source("CIFAR-100", "CIFAR100", ("cifar-100-python",), 100),
    "svhn": Source("SVHN", "SVHN", ("train_32x32.mat", "test_32x32.mat")),
}


def data_dir() -> Path:
    """``$RELAXBENCH_DATA``, or ``data`` in relaxbench's cache folder."""
    return Path(os.environ.get("RELAXBENCH_DATA") or cache_dir() / "data")


def images(name: str) -> dict[str, Images]:
    """The published ``"train"`` and ``"test"`` images of a source.

    Raises:
        UserError: if they are not there, saying where they are looked for and how to get them; if a file is damaged.
    """
    source, folder = _source(name), data_dir()
    tensors = cached(name, _files(source, folder), lambda: _decode(source, folder))
    return {split: Images(tensors[f"{split}.x"], tensors[f"{split}.y"]) for split in ("train", "test")}


def held_out(data: Images, share: float) -> dict[str, Images]:
    """``"train"`` and ``"validation"``: the same share of every class, always the same images."""
    words = random.key(torch.tensor([0]), random.DATA, torch.tensor([1]))
    order = random.permutation(words, len(data.y)).flatten()
    chosen = torch.zeros(len(data.y), dtype=torch.bool)
    for label, count in _shares(torch.bincount(data.y), share).items():
        chosen[order[data.y[order] == label][:count]] = True
    return {name: Images(data.x[rows], data.y[rows]) for name, rows in (("train", ~chosen), ("validation", chosen))}


def _shares(counts: Tensor, share: float) -> dict[int, int]:
    """How many to take of each class: one at least, and together the share of the whole (largest remainders)."""
    exact = counts.double() * share
    taken = exact.floor().clamp(min=1).where(counts > 0, 0)
    left = max(0, round(float(exact.sum() - taken.sum())))
    taken[torch.argsort(exact - taken, descending=True, stable=True)[:left]] += 1
    return {label: int(count) for label, count in enumerate(taken.tolist()) if count}


def download(name: str) -> None:
    """Fetch a source into the data folder with torchvision.

    Raises:
        UserError: if that fails.
    """
    source, folder = _source(name), data_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _torchvision(source, folder, download=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{source.title} cannot be downloaded into {str(folder)!r} ({_first_line(error)}): put its files there "
            f"yourself, as {source.layout}"
        ) from None


def _source(name: str) -> Source:
    if name not in SOURCES:
        raise unknown("data set", name, SOURCES)
    return SOURCES[name]


def _files(source: Source, folder: Path) -> str:
    """Names, sizes and times of the files of a source: what is decoded is decoded again when they change."""
    places = [folder / place for place in source.places]
    paths = [path for place in places for path in ([place] if place.is_file() else sorted(place.glob("*")))]
    stats = [(path.name, path.stat()) for path in paths]
    return " ".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)


def _decode(source: Source, folder: Path) -> dict[str, Tensor]:
    if not any((folder / place).exists() for place in source.places):
        raise UserError(
            f"{source.title} is not in {str(folder)!r}: set RELAXBENCH_DATA to the folder that holds {source.layout} "
            "(torchvision's layout)"
        )
    with _unpacked(source, folder) as place:
        try:
            return _torchvision(source, place)
        except Exception as error:  # torchvision has no errors of its own: whatever damaged files make of themselves
            raise _damaged(source, folder, error) from error


def _torchvision(source: Source, folder: Path, download: bool = False) -> dict[str, Tensor]:
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
def _unpacked(source: Source, folder: Path) -> Iterator[Path]:
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


def _damaged(source: Source, folder: Path, error: Exception, file: str = "") -> UserError:
    what = f", {file}," if file else ""
    return UserError(
        f"{source.title} in {str(folder)!r}{what} is incomplete or damaged ({_first_line(error)}): delete the files in "
        f"{source.layout} and fetch them again"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
