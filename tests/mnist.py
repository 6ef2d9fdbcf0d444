"""MNIST and a text in small, in their published files: real ones where they are at hand, else made up ones."""

from __future__ import annotations

import gzip
import lzma
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PLACES = os.environ.get("RELAXBENCH_TESTS_DATA"), os.environ.get("RELAXBENCH_DATA")
REAL = Path(next(filter(None, PLACES), Path(__file__).parents[2] / "shared" / "data")).absolute()
"""Where real data may be: processes that the tests start inherit the place under the first name."""
SIZES = {"train": 800, "t10k": 200}


@dataclass(frozen=True)
class Small:
    """A folder with ``data/MNIST/raw`` and ``data/war-and-peace.txt``, and what is in it, in words."""

    folder: Path
    what: str


def small_mnist(folder: Path) -> Small:
    """Write it."""
    raw, here = folder / "data" / "MNIST" / "raw", REAL / "MNIST" / "raw"
    raw.mkdir(parents=True)
    real = (here / "train-images-idx3-ubyte.gz").exists()
    rng = np.random.default_rng(0)
    for split, count in SIZES.items():
        for kind, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
            file, numbers = f"{split}-{kind}-ubyte.gz", int(np.prod(shape))
            if real:
                with gzip.open(here / file) as whole:
                    content = whole.read(4 + 4 * len(shape) + numbers)[4 + 4 * len(shape) :]
            elif len(shape) == 1:
                content = (np.arange(count) % 10).astype(np.uint8).tobytes()
            else:  # a bright bar over noise, at the height of its label: something that can be learned
                pixels = rng.integers(0, 100, shape)
                for image, label in zip(pixels, np.arange(count) % 10, strict=True):
                    image[2 * label + 3 : 2 * label + 7] += 150
                content = pixels.astype(np.uint8).tobytes()
            head = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
            (raw / file).write_bytes(gzip.compress(head + content, 1))
    novel = REAL / "war-and-peace.txt.xz"
    text = "Well, Prince, so Genoa and Lucca are now just family estates of the Buonapartes. " * 500
    if novel.exists():
        with lzma.open(novel, "rt", encoding="utf-8-sig") as whole_text:
            text = whole_text.read(40_000)
    (folder / "data" / "war-and-peace.txt").write_text(text, encoding="utf-8")
    total = sum(SIZES.values())
    return Small(
        folder, f"{total:,} real images" if real else f"{total:,} synthetic images, for the real ones are not here"
    )
