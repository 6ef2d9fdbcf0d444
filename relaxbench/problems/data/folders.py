"""Images of one's own: a folder or an archive with one folder a class, decoded once to uint8."""

from __future__ import annotations

import io
import os
import tarfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Self

import numpy as np
import torch
from torch import Tensor

from relaxbench.errors import UserError
from relaxbench.problems.data.cache import cached
from relaxbench.problems.data.images import Images, first_line, held_out

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Of images, as in torchvision's ImageFolder; other files are passed over."""
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".zip")
SPLITS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
HELD_OUT = 0.1
UNTESTED = 0.2
"""Of a folder without splits, the share that becomes its test split."""
LAYOUT = "train/CLASS/*.jpg and test/CLASS/*.jpg, or CLASS/*.jpg"


@dataclass(frozen=True)
class Found:
    """An image before it is decoded: the split and class that its place says, and where it lies."""

    split: str
    label: str
    place: str


@dataclass(frozen=True)
class ImageFolder:
    """A folder or an archive (tar, tar.gz, tar.xz, zip) of images, in the layout of torchvision's ImageFolder.

    Splits are the folders ``train``, ``val`` and ``test`` above the classes. Where there is no ``test``, ``val`` is
    it; where there are none of them, a fifth of every class is. Validation images are held out of the training ones
    unless there is a folder for them. Nothing is ever unpacked to disk.

    Args:
        path: of the folder or the archive.
        size: images are scaled and cut to this height and width; None: they must all be of one size.
    """

    path: Path
    size: int | None = None

    @property
    def name(self) -> str:
        """That of the folder or archive, without its suffix."""
        name = self.path.absolute().name
        for suffix in sorted(ARCHIVES, key=len, reverse=True):
            name = name.removesuffix(suffix)
        return name

    @property
    def title(self) -> str:
        """What tables call it: never by the name of a data set that it may be made from."""
        return f"ImageFolder {self.path.name}"

    @property
    def layout(self) -> str:
        """How it is built."""
        return LAYOUT

    @property
    def held_out(self) -> float:
        """Where there is no folder for validation."""
        return HELD_OUT

    @property
    def classes(self) -> int:
        """How many."""
        return int(self._tensors["classes"])

    def published(self) -> dict[str, Images]:
        """Its splits as they lie: ``"train"``, ``"test"`` and, where there is a folder for it, ``"validation"``.

        Raises:
            UserError: if it is not there, damaged, or no such folder.
        """
        names = [split for split in ("train", "validation", "test") if f"{split}.x" in self._tensors]
        return {split: Images(self._tensors[f"{split}.x"], self._tensors[f"{split}.y"]) for split in names}

    def download(self) -> None:
        """Nobody else has it.

        Raises:
            UserError: always.
        """
        raise UserError(f"{self.title} cannot be downloaded: put a folder or an archive there, with {LAYOUT}")

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        if not self.path.exists():
            raise UserError(
                f"{str(self.path)!r} does not exist: name a folder or an archive ({', '.join(ARCHIVES)}) of images, "
                f"with {LAYOUT}"
            )
        if self.path.is_file() and not self.path.name.lower().endswith(ARCHIVES):
            raise UserError(f"{str(self.path)!r} is no archive: expected {', '.join(ARCHIVES)}, or a folder")
        with self._reading():
            key = f"{self.size} {self._state()}"
        return cached(self.name, key, self._decode)

    def _state(self) -> str:
        """What changes when the images do."""
        if self.path.is_file():
            return f"{self.path.stat().st_size} {self.path.stat().st_mtime_ns}"
        stats = [(path.relative_to(self.path), path.stat()) for path in _images_below(self.path)]
        return " ".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)

    def _decode(self) -> dict[str, Tensor]:
        with self._reading():
            read = {found: self._pixels(found, content) for found, content in self._contents()}
        splits: dict[str, list[Found]] = {}
        for found in sorted(read, key=lambda f: (f.label, f.place)):
            splits.setdefault(found.split, []).append(found)
        if not read:
            raise UserError(f"{self._named} holds no images ({', '.join(SUFFIXES)}): expected {LAYOUT}")
        if "train" not in splits:
            has = ", ".join(sorted(splits))
            raise UserError(f"{self._named} has a {has} split and no training images: expected {LAYOUT}")
        labels = sorted({found.label for found in splits["train"]})
        if len(labels) < 2:
            raise UserError(f"{self._named} has one class, {labels[0]!r}: expected a folder for each of two or more")
        self._check(read, splits, labels)
        parts = {split: self._together(found, read, labels) for split, found in splits.items()}
        if "test" not in parts and "validation" in parts:
            parts["test"] = parts.pop("validation")
        elif "test" not in parts:
            few, rarest = min(zip(parts["train"].y.bincount().tolist(), labels, strict=True))
            if few < 3:
                raise UserError(
                    f"{self._named} has {few} image(s) of class {rarest!r}: expected three at least, for training, "
                    "validation and test"
                )
            divided = held_out(parts["train"], UNTESTED)
            parts = {"train": divided["train"], "test": divided["validation"]}
        tensors = {f"{split}.{name}": value for split, part in parts.items() for name, value in part._asdict().items()}
        return {**tensors, "classes": torch.tensor(len(labels))}

    def _check(self, read: dict[Found, np.ndarray], splits: dict[str, list[Found]], labels: list[str]) -> None:
        strange = [found for found in read if found.label not in labels]
        if strange:
            raise UserError(
                f"{self._named}: {strange[0].place!r} is of a class without training images: expected one of "
                f"{', '.join(labels[:10])}"
            )
        first = splits["train"][0]
        for found, pixels in read.items():
            if pixels.shape[:2] != read[first].shape[:2]:
                sizes = [f"{p.shape[1]} × {p.shape[0]}" for p in (read[first], pixels)]
                raise UserError(
                    f"{self._named} holds images of several sizes ({first.place!r}: {sizes[0]}, {found.place!r}: "
                    f"{sizes[1]}): scale them to one size"
                )

    def _together(self, rows: list[Found], read: dict[Found, np.ndarray], labels: list[str]) -> Images:
        grey = all(pixels.ndim == 2 for pixels in read.values())
        pixels = [read[f] if grey or read[f].ndim == 3 else np.repeat(read[f][..., None], 3, axis=2) for f in rows]
        x = torch.from_numpy(np.stack(pixels))
        x = x[:, None] if grey else x.permute(0, 3, 1, 2)
        return Images(x.contiguous(), torch.tensor([labels.index(f.label) for f in rows]))

    def _pixels(self, found: Found, content: bytes) -> np.ndarray:
        """uint8 ``[H, W]`` of a grey image, ``[H, W, 3]`` of any other."""
        from PIL import Image, UnidentifiedImageError
        from torchvision.transforms import functional

        try:
            with warnings.catch_warnings(), Image.open(io.BytesIO(content)) as file:
                warnings.simplefilter("ignore")  # about transparency in palettes, and the like
                image = file.convert("L" if file.mode in ("1", "L") else "RGB")
                if self.size is not None:
                    image = functional.resize(image, [round(self.size * 256 / 224)])
                    image = functional.center_crop(image, [self.size])
                return np.array(image)
        except UnidentifiedImageError:
            raise UserError(f"{self._named}: {found.place!r} is of no known image format: remove it") from None
        except Exception as error:  # Pillow raises many kinds; those of damaged files are not documented
            raise UserError(
                f"{self._named}: {found.place!r} cannot be read as an image ({first_line(error)}): remove it"
            ) from None

    def _contents(self) -> Iterator[tuple[Found, bytes]]:
        """Every image's place and bytes, in any order; other files are passed over."""
        if self.path.is_dir():
            for path in _images_below(self.path):
                if found := _found(path.relative_to(self.path).as_posix()):
                    yield found, path.read_bytes()
        elif self.path.name.lower().endswith(".zip"):
            with zipfile.ZipFile(self.path) as archive:
                for name in archive.namelist():
                    if found := _found(name):
                        yield found, archive.read(name)
        else:
            with tarfile.open(self.path, "r|*", tarinfo=_Member) as stream:  # as it comes: xz cannot go back cheaply
                for member in stream:
                    if member.isfile() and (found := _found(member.name)):
                        file = stream.extractfile(member)
                        assert file is not None
                        yield found, file.read()

    @property
    def _named(self) -> str:
        return f"ImageFolder {str(self.path)!r}"

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except MemoryError:
            raise UserError(f"{self._named}: its images do not fit into memory: take fewer, or smaller ones") from None
        except Exception as error:  # tarfile, zipfile, lzma, zlib and the system, each with their own
            what = "archive is damaged or incomplete" if self.path.is_file() else "folder cannot be read"
            raise UserError(f"{self._named}: the {what} ({first_line(error)}): make or fetch it again") from None


def _found(place: str) -> Found | None:
    """What a file's place says of it: ``[…/]SPLIT/CLASS/image`` or ``CLASS/image``."""
    *folders, name = [part for part in PurePosixPath(place).parts if part not in (".", "/")]
    if not name.lower().endswith(SUFFIXES) or name.startswith(".") or "__MACOSX" in folders or not folders:
        return None
    above = next((i for i in reversed(range(len(folders) - 1)) if folders[i].lower() in SPLITS), None)
    if above is not None:
        return Found(SPLITS[folders[above].lower()], folders[above + 1], place)
    return Found("train", folders[-1], place)


class _Member(tarfile.TarInfo):
    """A member whose header must be sound: tarfile takes a bad one for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.HeaderError as error:
            if type(error).__name__ == "EOFHeaderError":  # the block of zeros that ends an archive
                raise
            raise tarfile.ReadError(f"{error} after some members") from None


def _images_below(folder: Path) -> list[Path]:
    """Every image once, whatever links there are; an `OSError` for a folder that cannot be read."""

    def refuse(error: OSError) -> None:
        raise error

    seen, images = set[str](), list[Path]()
    for below, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        folders[:] = sorted(name for name in folders if os.path.realpath(os.path.join(below, name)) not in seen)
        seen |= {os.path.realpath(below), *(os.path.realpath(os.path.join(below, name)) for name in folders)}
        images += [Path(below) / file for file in files]
    return sorted(path for path in images if _found(path.relative_to(folder).as_posix()))
