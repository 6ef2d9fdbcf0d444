"""The images of a folder or an archive: their bytes, and their split and class, which their paths name."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""File names of images, as in torchvision's ImageFolder; other files are ignored."""
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".zip")
SPLITS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}


@dataclass(frozen=True)
class ImagePlace:
    """Where an image is before it is decoded.

    Attributes:
        split: ``"train"``, ``"validation"`` or ``"test"``.
        label: name of its class.
        path: within the folder or archive, for messages.
    """

    split: str
    label: str
    path: str


def contents(path: Path) -> Iterator[tuple[ImagePlace, bytes]]:
    """Yield the place and the bytes of every image of a folder or an archive, in any order; ignore other files.

    Raises:
        OSError: if a folder or a file cannot be read.
        tarfile.TarError, zipfile.BadZipFile, and others: if an archive is damaged.
    """
    if path.is_dir():
        for file in images_below(path):
            if place := _place(file.relative_to(path).as_posix()):
                yield place, file.read_bytes()
    elif path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if place := _place(name):
                    yield place, archive.read(name)
    else:
        with tarfile.open(path, "r|*", tarinfo=_Member) as stream:  # in one pass: xz cannot seek back cheaply
            for member in stream:
                if member.isfile() and (place := _place(member.name)):
                    content = stream.extractfile(member)
                    assert content is not None
                    yield place, content.read()


def images_below(folder: Path) -> list[Path]:
    """Return the path of every image below a folder once, sorted; links to folders are followed.

    Raises:
        OSError: if a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    seen, images = set[str](), list[Path]()
    for below, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        folders[:] = sorted(name for name in folders if os.path.realpath(os.path.join(below, name)) not in seen)
        seen |= {os.path.realpath(below), *(os.path.realpath(os.path.join(below, name)) for name in folders)}
        images += [Path(below) / file for file in files]
    return sorted(path for path in images if _place(path.relative_to(folder).as_posix()))


def _place(path: str) -> ImagePlace | None:
    """Read split and class from a path ``[…/]SPLIT/CLASS/image`` or ``CLASS/image``; None for other files."""
    *folders, name = [part for part in PurePosixPath(path).parts if part not in (".", "/")]
    if not name.lower().endswith(SUFFIXES) or name.startswith(".") or "__MACOSX" in folders or not folders:
        return None
    above = next((i for i in reversed(range(len(folders) - 1)) if folders[i].lower() in SPLITS), None)
    if above is not None:
        return ImagePlace(SPLITS[folders[above].lower()], folders[above + 1], path)
    return ImagePlace("train", folders[-1], path)


class _Member(tarfile.TarInfo):
    """A member of a tar archive. Raise on a damaged header, which tarfile alone takes for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.HeaderError as error:
            if type(error).__name__ == "EOFHeaderError":  # the block of zeros that ends an archive
                raise
            raise tarfile.ReadError(f"{error} after some members") from None
