"""The splits of a person's data: held in memory as tensors, or read from a Dataset piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

import psutil
import torch
from torch import Tensor

from relaxbench import random
from relaxbench.errors import UserError
from relaxbench.problems import arguments
from relaxbench.problems.data.cache import fingerprint
from relaxbench.problems.dataset_code import code_of
from relaxbench.problems.datasets import Pair, Reader, is_dataset, tensor_of
from relaxbench.problems.streaming import read_pieces

SPLITS = ("train", "validation", "test")
SAMPLED = 64
"""Examples of a Dataset that is not in memory by which it is recognized."""
PIECE = 1024
"""Examples that are read at once."""
COMPARED = 1_000_000, 2**30
"""Examples and bytes of a split up to which its examples are compared with those of the others: a second or two."""


@dataclass
class Split:
    """Examples by number.

    Attributes:
        count: of examples.
        reader: of a Dataset; None for tensors.
        held: the examples in memory; None if they are read when they are needed.
    """

    count: int
    reader: Reader | None
    held: Pair | None

    @property
    def drawn(self) -> Reader | None:
        """What reads training examples anew for every mini-batch; None if they are tensors that do not change."""
        return self.reader if self.held is None or (self.reader is not None and self.reader.draws) else None

    def part(self, rows: slice | Tensor) -> Pair:
        """Return some examples; a slice of those in memory is a view."""
        if self.held is not None:
            return self.held[0][rows], self.held[1][rows]
        wanted = range(self.count)[rows] if isinstance(rows, slice) else rows.tolist()
        pairs = [*self._pieces(wanted, PIECE)]
        return torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])

    def pieces(self, rows: Tensor | None, size: int) -> Iterator[Pair]:
        """Yield all examples, or those with these numbers, in pieces of at most `size`."""
        if self.held is not None:
            x, y = self.held if rows is None else self.part(rows)
            yield from ((x[i : i + size], y[i : i + size]) for i in range(0, len(x), size))
            return
        yield from self._pieces(range(self.count) if rows is None else rows.tolist(), size)

    def read_once(self) -> None:
        """Read examples that are not in memory, so that what is wrong with the test split does not show at the end."""
        for _ in self.pieces(None, PIECE) if self.held is None else ():
            pass

    @cached_property
    def sample(self) -> Pair:
        """All examples in memory, or the first, the last and some others."""
        if self.held is not None:
            return self.held
        words = random.key(torch.tensor([0]), random.DATA, torch.tensor([5]))
        others = random.permutation(words, self.count).flatten()[:SAMPLED].tolist()
        return self.part(torch.tensor(sorted({0, self.count - 1, *others})))

    @cached_property
    def examples(self) -> list[bytes]:
        """A digest per example, inputs and label; none for data that are not in memory or larger than `COMPARED`."""
        most, room = COMPARED
        if self.held is None or self.count > most or sum(part.nbytes for part in self.held) > room:
            return []
        x, y = (
            part.detach().cpu().reshape(self.count, part[0].numel()).contiguous().view(torch.uint8).numpy()
            for part in self.held
        )
        rows = zip(x, y, strict=True)
        return [blake2b(label, key=blake2b(inputs).digest(), digest_size=16).digest() for inputs, label in rows]

    def shares(self, other: Split) -> int:
        """Count the examples that are also in another split."""
        others = {*other.examples}
        return sum(example in others for example in self.examples)

    @cached_property
    def code(self) -> str:
        """A digest of the code of a Dataset that is not in memory; "" for data in memory."""
        return code_of(self.reader.dataset) if self.held is None and self.reader is not None else ""

    def identity(self, name: str) -> Iterator[tuple[str, Tensor]]:
        """Yield what makes a split this one and no other, for `fingerprint`."""
        label = name if self.held is not None else f"{name} {self.count} {self.code}"
        yield from ((label, part) for part in self.sample)

    def _pieces(self, rows: Sequence[int], size: int) -> Iterator[Pair]:
        assert self.reader is not None
        return read_pieces(self.reader, rows, size)


def load(name: str, give: Callable[[], Any], batch_size: int, in_memory: bool) -> dict[str, Split]:
    """Call the data function of a problem, and check its splits.

    Raises:
        UserError: for a missing or empty split, or one with fewer training examples than a mini-batch.
    """
    given, splits = arguments.splits(name, give), dict[str, Split]()
    for split in SPLITS:
        if split not in given:
            raise UserError(f"problem {name!r}: data() gives no {split!r} split; expected {', '.join(SPLITS)}")
        splits[split] = _split(name, split, given[split], batch_size, in_memory)
    if splits["train"].count < batch_size:
        raise UserError(
            f"problem {name!r}: batch_size {batch_size} is larger than the training split "
            f"({splits['train'].count} examples): take more data, or a problem with smaller batches"
        )
    return splits


def digest(splits: Mapping[str, Split]) -> str:
    """Return a digest of all splits; of a Dataset that is not in memory: length, code and a sample."""
    return fingerprint(part for name, split in splits.items() for part in split.identity(name))[:16]


def _split(problem: str, name: str, data: Any, batch_size: int, in_memory: bool) -> Split:
    if is_dataset(data):
        reader = Reader(problem, name, data, batch_size)
        if not in_memory:
            return Split(reader.count, reader, None)
        _require_room(reader)
        pairs = [*read_pieces(reader, range(reader.count), PIECE)]
        return Split(reader.count, reader, (torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])))
    x, y = _tensors(problem, name, data)
    if len(x) != len(y) or not len(x):
        raise UserError(
            f"problem {problem!r}: {name} has {len(x):,} inputs and {len(y):,} labels: expected as many labels as "
            "inputs, at least one of each: look at how data() cuts them"
        )
    return Split(len(x), None, (x, y))


def _require_room(reader: Reader) -> None:
    needed, free = reader.bytes * reader.count, psutil.virtual_memory().available
    if needed > free / 2:
        raise UserError(
            f"{reader.what} takes {needed / 1e9:,.1f} GB in memory, of which {free / 1e9:,.1f} GB are free: state "
            "in_memory=False, and its examples are read when they are needed"
        )


def _tensors(problem: str, split: str, data: Any) -> Pair:
    """Return inputs and labels that are given as tensors or arrays.

    Raises:
        UserError: for a split of another form.
    """
    try:
        x, y = (tensor_of(part) for part in data)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(
            f"problem {problem!r}: {split} is {type(data).__name__}: expected (inputs, labels) as tensors or arrays, "
            "or a torch.utils.data.Dataset with a length"
        ) from None
    for part in (x, y):
        if not part.dim():
            raise UserError(f"problem {problem!r}: {split} holds one number: expected one row per example")
        if not _ordinary(part):
            kinds = {"complex": part.is_complex(), "quantized": part.is_quantized, "nested": part.is_nested}
            kinds["meta"] = part.is_meta
            kind = next((name for name, given in kinds.items() if given), str(part.layout).removeprefix("torch."))
            raise UserError(
                f"problem {problem!r}: {split} holds a tensor of another kind ({kind}): expected dense tensors of real "
                "numbers, such as tensor.to_dense()"
            )
    return x, y


def _ordinary(tensor: Tensor) -> bool:
    """Return whether a tensor is dense, holds real numbers, and has values at all."""
    return not (
        tensor.layout != torch.strided
        or tensor.is_nested
        or tensor.is_complex()
        or tensor.is_quantized
        or tensor.is_meta
    )
