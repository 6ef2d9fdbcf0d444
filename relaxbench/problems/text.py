"""Networks that predict the next character of a text: a recurrent one and a transformer."""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
from collections.abc import Callable
from functools import cache, cached_property
from pathlib import Path
from typing import IO, Any, NamedTuple, Unpack

import torch
from torch import Tensor, nn

from relaxbench import random
from relaxbench.errors import UserError
from relaxbench.problems import networks
from relaxbench.problems.data.images import first_line
from relaxbench.problems.data.sources import in_data_dir
from relaxbench.problems.losses import Batch
from relaxbench.problems.problem import Params
from relaxbench.problems.splits import SPLITS
from relaxbench.problems.supervised import ProblemOptions, StoredProblem

WAR_AND_PEACE = "war-and-peace.txt"
OPEN: dict[str, Callable[..., IO[Any]]] = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
LENGTH = 64
"""Characters per window. A network knows nothing of those before its window."""
SHARES = (0.8, 0.1, 0.1)
"""Shares of the text for training, validation and test, in this order."""


class Recipe(NamedTuple):
    """A network on characters, and how long it is trained.

    Attributes:
        network: a function of the size of the alphabet.
        title: as in a report.
        batch_size: windows per gradient.
        budget: gradients per trial, 50 epochs of War and Peace; that of the small variant is `SMALL`.
    """

    network: Callable[[int], nn.Module]
    title: str
    batch_size: int
    budget: int


RECIPES = {
    "char-lstm": Recipe(networks.CharLSTM, "two layers of LSTM that predict the next character", 64, 50 * 636),
    "tiny-transformer": Recipe(
        lambda characters: networks.CharTransformer(characters, LENGTH),
        "a transformer of two blocks that predicts the next character",
        16,
        50 * 4 * 636,
    ),
}
SMALL = 600
"""Budget of the small variants, in gradients."""


class Text(NamedTuple):
    """A text as numbers.

    Attributes:
        alphabet: its characters, in order.
        codes: int16 ``[N]``, indices into the alphabet.
    """

    alphabet: str
    codes: Tensor


def read(path: Path) -> Text:
    """Read a text in UTF-8, plain or compressed (xz, gz, bz2).

    Raises:
        UserError: if the file is missing, damaged, not UTF-8, too short, or has too few or too many characters.
    """
    file_path = next((p for p in (path, *(path.with_name(path.name + suffix) for suffix in OPEN)) if p.is_file()), None)
    if path.is_dir():
        raise UserError(f"text {str(path)!r} is a folder: name a file, as char-lstm:FILE.txt")
    if file_path is None:
        raise UserError(
            f"text {str(path)!r} does not exist: set RELAXBENCH_DATA to the folder that holds it, or name another "
            "text, as char-lstm:FILE.txt",
            "data_dir",
        )
    try:
        with OPEN.get(file_path.suffix, open)(file_path, "rb") as file:
            content = file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"text {str(file_path)!r} is not UTF-8 at byte {error.start}: convert it") from None
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise UserError(
            f"text {str(file_path)!r} is damaged or cannot be read ({first_line(error)}): fetch or compress it again"
        ) from None
    content = content.replace("\r\n", "\n")
    alphabet = "".join(sorted(set(content)))
    if len(content) < 20 * LENGTH or not 2 <= len(alphabet) < 2**15:
        raise UserError(
            f"text {str(file_path)!r} has {len(content):,} characters, {len(alphabet):,} different: expected at least "
            f"{20 * LENGTH:,}, of two kinds or more"
        )
    places = {character: place for place, character in enumerate(alphabet)}
    return Text(alphabet, torch.tensor([places[character] for character in content], dtype=torch.int16))


class TextProblem(StoredProblem):
    """Characters of a text, each predicted from those before it in its window. The metric is bits per character.

    Args:
        name: as in study files.
        file: path of the text, absolute or below the data folder.
        network: a function of the size of the alphabet that builds the model.
        limit: maximum number of windows for validation and for test each; None for all.
        options: keyword arguments of `SupervisedProblem`.
    """

    def __init__(
        self,
        name: str,
        file: str,
        *,
        network: Callable[[int], nn.Module] = networks.CharLSTM,
        limit: int | None = None,
        **options: Unpack[ProblemOptions],
    ) -> None:
        self.file, self.limit = file, limit
        super().__init__(
            name,
            lambda: network(len(self.text.alphabet)),
            self._windows,
            source=Path(file).name,
            **options,
        )
        self.metric, self.unit, self.metric_scale = "test cross-entropy", "bits per character", 1 / math.log(2)
        self.worst_metric = self.worst

    @property
    def data(self) -> str:  # type: ignore[override]
        """The text and the sizes of its splits, or that the text is missing."""
        return f"{self.file}, not here" if self.missing() else f"{super().data} (windows of {LENGTH})"

    test_examples = None  # the windows of a text are not independent draws

    @cached_property
    def text(self) -> Text:
        """The whole text, read once per process."""
        return _read(in_data_dir(self.file))

    def correct(self, outputs: Tensor, batch: Batch) -> Tensor | None:
        return None

    def _call(self, params: Params, x: Tensor, y: Tensor | None) -> object:
        return super()._call(params, x.long(), y)

    def _windows(self) -> dict[str, tuple[Tensor, Tensor]]:
        codes, splits, start = self.text.codes, {}, 0
        for name, share in zip(SPLITS, SHARES, strict=True):
            count = (round(share * len(codes)) - 1) // LENGTH
            x = codes[start : start + count * LENGTH].view(count, LENGTH)
            y = codes[start + 1 : start + count * LENGTH + 1].view(count, LENGTH).long()
            start += round(share * len(codes))
            if self.limit is not None and name != "train" and count > self.limit:
                words = random.key(torch.tensor([0]), random.DATA, torch.tensor([3]))
                rows = random.permutation(words, count).flatten()[: self.limit].sort().values
                x, y = x[rows], y[rows]
            splits[name] = (x, y)
        return splits


def text_problem(name: str) -> TextProblem:
    """Make the problem of a name such as ``char-lstm``, ``tiny-transformer-small`` or ``char-lstm:shakespeare.txt``."""
    network, _, file = name.partition(":")
    small, recipe = network.endswith("-small"), RECIPES[network.removesuffix("-small")]
    return TextProblem(
        f"{network}:{Path(file).name.split('.')[0]}" if file else network,
        file or WAR_AND_PEACE,
        network=recipe.network,
        limit=500 if small else None,
        batch_size=recipe.batch_size,
        budget=SMALL if small else recipe.budget,
        most_rounds=5 if small else 50,
        worst=20.0,
        margin=0.01,
        kind="char-lstm" if network.startswith("char-lstm") else "transformer",
        title=recipe.title,
        caution="A small budget is a demonstration: training is far from its end." if small else "",
    )


@cache
def _read(path: Path) -> Text:
    """Read a text once per process."""
    return read(path)
