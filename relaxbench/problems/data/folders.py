"""Your own images: a folder or an archive with one folder per class, decoded once to uint8."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from relaxbench.errors import UserError
from relaxbench.problems.data.archives import ARCHIVES, SUFFIXES, ImagePlace, contents, images_below
from relaxbench.problems.data.cache import cached
from relaxbench.problems.data.images import Images, first_line, held_out

HELD_OUT = 0.1
"""Share of the training images that becomes the validation split of a folder without one."""
UNTESTED = 0.2
"""Share of every class that becomes the test split of a folder without splits."""
LAYOUT = "train/CLASS/*.jpg and test/CLASS/*.jpg, or CLASS/*.jpg"


@dataclass(frozen=True)
class ImageFolder:
    """A folder or an archive (tar, tar.gz, tar.xz, zip) of images, in the layout of torchvision's ImageFolder.

    Splits are the folders ``train``, ``val`` and ``test`` above the classes. Without ``test``, ``val`` becomes the test
    split. Without both, a fifth of every class does. Validation images are held out of the training images unless
    there is a folder for them. Nothing is ever unpacked to disk. Satisfies `sources.Source`.

    Args:
        path: the folder or the archive.
        size: height and width to which images are scaled and cut; None: they must all have one size.
    """

    path: Path
    size: int | None = None

    @property
    def name(self) -> str:
        """Name of the folder or archive, without its suffix."""
        name = self.path.absolute().name
        for suffix in sorted(ARCHIVES, key=len, reverse=True):
            name = name.removesuffix(suffix)
        return name

    @property
    def title(self) -> str:
        """Name in reports: never that of a data set from which the folder may have been made."""
        return f"ImageFolder {self.path.name}"

    @property
    def layout(self) -> str:
        """The files that are expected, for messages."""
        return LAYOUT

    @property
    def held_out(self) -> float:
        """Share of the training images that becomes the validation split, if there is no folder for it."""
        return HELD_OUT

    @property
    def classes(self) -> int:
        """Number of classes. The images are read for it."""
        return int(self._tensors["classes"])

    def published(self) -> dict[str, Images]:
        """Return the splits: ``"train"``, ``"test"`` and, if there is a folder for it, ``"validation"``.

        Raises:
            UserError: if the path is missing or damaged, or has another layout.
        """
        names = [split for split in ("train", "validation", "test") if f"{split}.x" in self._tensors]
        return {split: Images(self._tensors[f"{split}.x"], self._tensors[f"{split}.y"]) for split in names}

    def download(self) -> None:
        """Raise: your own images cannot be downloaded.

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
        """Sizes and times of the files: the key under which decoded images are cached."""
        if self.path.is_file():
            return f"{self.path.stat().st_size} {self.path.stat().st_mtime_ns}"
        stats = [(path.relative_to(self.path), path.stat()) for path in images_below(self.path)]
        return " ".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)

    def _decode(self) -> dict[str, Tensor]:
        with self._reading():
            pixels = {place: self._pixels(place, content) for place, content in contents(self.path)}
        places: dict[str, list[ImagePlace]] = {}
        for place in sorted(pixels, key=lambda p: (p.label, p.path)):
            places.setdefault(place.split, []).append(place)
        if not pixels:
            raise UserError(f"{self._title} holds no images ({', '.join(SUFFIXES)}): expected {LAYOUT}")
        if "train" not in places:
            has = ", ".join(sorted(places))
            raise UserError(f"{self._title} has a {has} split and no training images: expected {LAYOUT}")
        labels = sorted({place.label for place in places["train"]})
        if len(labels) < 2:
            raise UserError(f"{self._title} has one class, {labels[0]!r}: expected a folder for each of two or more")
        self._check(pixels, places["train"][0], labels)
        splits = {split: self._stack(rows, pixels, labels) for split, rows in places.items()}
        splits = self._with_test(splits, labels)
        tensors = {f"{split}.{name}": value for split, part in splits.items() for name, value in part._asdict().items()}
        return {**tensors, "classes": torch.tensor(len(labels))}

    def _with_test(self, splits: dict[str, Images], labels: list[str]) -> dict[str, Images]:
        """Make a test split where there is none: of the validation split, else of a part of every class."""
        if "test" in splits:
            return splits
        if "validation" in splits:
            return {"train": splits["train"], "test": splits["validation"]}
        few, rarest = min(zip(splits["train"].y.bincount().tolist(), labels, strict=True))
        if few < 3:
            raise UserError(
                f"{self._title} has {few} image(s) of class {rarest!r}: expected three at least, for training, "
                "validation and test"
            )
        halves = held_out(splits["train"], UNTESTED)
        return {"train": halves["train"], "test": halves["validation"]}

    def _check(self, pixels: dict[ImagePlace, np.ndarray], first: ImagePlace, labels: list[str]) -> None:
        """Raise a `UserError` for classes without training images, and for images of several sizes."""
        strange = [place for place in pixels if place.label not in labels]
        if strange:
            raise UserError(
                f"{self._title}: {strange[0].path!r} is of a class without training images: expected one of "
                f"{', '.join(labels[:10])}"
            )
        for place, image in pixels.items():
            if image.shape[:2] != pixels[first].shape[:2]:
                sizes = [f"{p.shape[1]} × {p.shape[0]}" for p in (pixels[first], image)]
                raise UserError(
                    f"{self._title} holds images of several sizes ({first.path!r}: {sizes[0]}, {place.path!r}: "
                    f"{sizes[1]}): scale them to one size"
                )

    def _stack(self, rows: list[ImagePlace], pixels: dict[ImagePlace, np.ndarray], labels: list[str]) -> Images:
        """Stack the images of a split: one channel if all images of all splits are grey, else three."""
        grey = all(image.ndim == 2 for image in pixels.values())
        images = [pixels[place] for place in rows]
        if not grey:
            images = [image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2) for image in images]
        x = torch.from_numpy(np.stack(images))
        x = x[:, None] if grey else x.permute(0, 3, 1, 2)
        return Images(x.contiguous(), torch.tensor([labels.index(place.label) for place in rows]))

    def _pixels(self, place: ImagePlace, content: bytes) -> np.ndarray:
        """Decode an image: uint8 ``[H, W]`` if it is grey, else ``[H, W, 3]``."""
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
            raise UserError(f"{self._title}: {place.path!r} is of no known image format: remove it") from None
        except Exception as error:  # Pillow raises many kinds; those of damaged files are not documented
            raise UserError(
                f"{self._title}: {place.path!r} cannot be read as an image ({first_line(error)}): remove it"
            ) from None

    @property
    def _title(self) -> str:
        return f"ImageFolder {str(self.path)!r}"

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn the errors of a damaged folder or archive into a `UserError`."""
        try:
            yield
        except UserError:
            raise
        except MemoryError:
            raise UserError(f"{self._title}: its images do not fit into memory: take fewer, or smaller ones") from None
        except Exception as error:  # tarfile, zipfile, lzma, zlib and the system raise errors of many kinds
            what = "archive is damaged or incomplete" if self.path.is_file() else "folder cannot be read"
            raise UserError(f"{self._title}: the {what} ({first_line(error)}): make or fetch it again") from None
