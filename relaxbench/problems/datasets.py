"""Read a `torch.utils.data.Dataset` by the numbers of its examples, whose random numbers are functions of a seed."""

from __future__ import annotations

import contextlib
import random as python
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler, default_collate
from torch.utils.data._utils.collate import default_convert

from relaxbench.errors import UserError
from relaxbench.problems.labels import expected_labels
from relaxbench.problems.seeding import torch_seeded
from relaxbench.util.seeds import derive
from relaxbench.util.text import counted

TRIED = 8
"""Examples that are read twice with one seed, to see whether the seed fixes them."""
Pair = tuple[Tensor, Tensor]
"""Inputs and labels of some examples."""


class Reader:
    """Reads examples of a Dataset, or of the Dataset of a DataLoader, whose collate function and processes are used.

    Random numbers of torch, Python and numpy are functions of a seed: one per mini-batch in training, and one per
    example everywhere else, so that a held-out example is the same in whatever company it is read.

    Args:
        problem: name of the problem, for messages.
        split: name of the split.
        data: a Dataset with a length, or a DataLoader of one.
        batch_size: of the problem; a DataLoader of the training split must have the same.

    Attributes:
        dataset: what is read.
        count: number of examples.
        workers: processes that read ahead; 0 for none.
        draws: whether an example was read that draws from torch's, Python's or numpy's generator.
        classes: number of classes, and the label that is ignored; None where labels are no classes.
        bytes: memory of one example.

    Raises:
        UserError: for a Dataset that has no order, is empty, or gives other examples each time.
    """

    def __init__(self, problem: str, split: str, data: Any, batch_size: int) -> None:
        self.what = f"problem {problem!r}: the Dataset of {split}"
        self._collate, self.workers = None, 0
        if isinstance(data, DataLoader):
            self._collate, self.workers = _collate_of(data), data.num_workers
            _check_loader(f"problem {problem!r}: the DataLoader of {split}", data, batch_size, split == "train")
            data = data.dataset
        self.dataset: Any = data
        self.count = _length(self.what, data)
        self.draws = False
        self.classes: tuple[int, int | None] | None = None
        self._form: list[tuple[torch.Size, torch.dtype]] | None = None
        x, y = self.fixed([0])
        self._form = [(part.shape[1:], part.dtype) for part in (x, y)]
        self.bytes = x.nbytes + y.nbytes
        self._require_that_seeds_fix_examples()

    def batch(self, rows: Sequence[int], seed: int) -> Pair:
        """Return the examples of a mini-batch, whose random numbers are a function of one seed."""
        return self._read(rows, seed)[0]

    def fixed(self, rows: Sequence[int]) -> Pair:
        """Return examples that are always the same: the random numbers of each are a function of its number."""
        if not self.draws:
            pair, drew = self._read(rows, 0)
            if not drew:
                return pair
            self.draws = True
        pairs = [self._read([row], derive("example", row))[0] for row in rows]
        return torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])

    def _read(self, rows: Sequence[int], seed: int) -> tuple[Pair, bool]:
        """Return examples, and whether reading them drew random numbers."""
        with _seeded(seed) as drew:
            items = self._items(rows)
            pair = self._stacked(items, rows)
            drawn = drew()
        self._check(pair, rows)
        return pair, drawn

    def _items(self, rows: Sequence[int]) -> list[Any]:
        many = getattr(self.dataset, "__getitems__", None)
        if callable(many):
            return list(self._call(lambda: many(list(rows)), rows))
        return [self._call(lambda row=row: self.dataset[row], [row]) for row in rows]  # type: ignore[misc]

    def _call(self, read: Callable[[], Any], rows: Sequence[int]) -> Any:
        try:
            return read()
        except (UserError, MemoryError):
            raise
        except Exception as error:  # a Dataset of a person may raise any kind
            reason = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
            which = f"example {rows[0]}" if len(rows) == 1 else f"examples {', '.join(map(str, rows[:3]))}, …"
            remedy = "make __len__ and __getitem__ agree" if isinstance(error, IndexError) else "mend its __getitem__"
            raise UserError(f"{self.what} fails on {which} of {self.count} ({reason}): {remedy}") from error

    def _stacked(self, items: list[Any], rows: Sequence[int]) -> Pair:
        try:
            if self._collate is not None:
                x, y = self._collate(items)
                return tensor_of(x), tensor_of(y)
            xs, ys = zip(*((tensor_of(x), tensor_of(y)) for x, y in items), strict=True)
            self._compare(xs, ys, rows)
            return torch.stack(xs), torch.stack(ys)
        except (TypeError, ValueError, RuntimeError) as error:
            reason = next(iter(str(error).splitlines()), "")
            raise UserError(
                f"{self.what} gives examples that cannot be stacked ({reason}): expected pairs (input, label) of "
                "tensors or numbers, all of one shape"
            ) from error

    def _compare(self, xs: Sequence[Tensor], ys: Sequence[Tensor], rows: Sequence[int]) -> None:
        form = self._form or [(part[0].shape, part[0].dtype) for part in (xs, ys)]
        for what, parts, (shape, dtype) in zip(("input", "label"), (xs, ys), form, strict=True):
            for row, part in zip(rows, parts, strict=True):
                if part.shape != shape or part.dtype != dtype:
                    raise self._other(f"{what} of example {row}", part.shape, part.dtype, shape, dtype)

    def _other(
        self, what: str, shape: Sequence[int], dtype: torch.dtype, first: Sequence[int], kind: torch.dtype
    ) -> UserError:
        return UserError(
            f"{self.what}: the {what} has shape {tuple(shape)} ({_plain(dtype)}), that of the first example "
            f"{tuple(first)} ({_plain(kind)}): expected one shape and type for all; pad or convert in __getitem__"
        )

    def _check(self, pair: Pair, rows: Sequence[int]) -> None:
        """Refuse what would spoil a run later, in words that name the example."""
        for index, (what, part) in enumerate(zip(("input", "label"), pair, strict=True)):
            if part.shape[:1] != (len(rows),):
                raise UserError(
                    f"{self.what}: its collate function gives {what}s of shape {tuple(part.shape)} for {len(rows)} "
                    "examples: expected the examples as first axis"
                )
            if self._form is not None and (part.shape[1:], part.dtype) != self._form[index]:
                shape, dtype = self._form[index]
                raise self._other(f"{what} of examples {rows[0]}, …", part.shape[1:], part.dtype, shape, dtype)
            if part.is_floating_point() and not bool(torch.isfinite(part).all()):
                row = rows[_first(~torch.isfinite(part))]
                raise UserError(
                    f"{self.what}: the {what} of example {row} has NaN or infinity: leave the example out, or replace "
                    "them in __getitem__"
                )
        if self.classes is not None:
            self._check_classes(pair[1], rows, *self.classes)

    def _check_classes(self, labels: Tensor, rows: Sequence[int], classes: int, ignored: int | None) -> None:
        wrong = (labels < 0) | (labels >= classes)
        wrong = wrong & (labels != ignored) if ignored is not None else wrong
        if bool(wrong.any()):
            raise UserError(
                f"{self.what}: example {rows[_first(wrong)]} has the label {int(labels[wrong][0])}, and the "
                f"model has {counted(classes, 'output')}: {expected_labels(classes)}"
            )

    def _require_that_seeds_fix_examples(self) -> None:
        rows = range(min(TRIED, self.count))
        (x, y), (other, label) = (self.batch(rows, 1) for _ in range(2))
        if not (torch.equal(x, other) and torch.equal(y, label)):
            raise UserError(
                f"{self.what} gives other examples each time that it is read: draw random numbers from torch, "
                "random or numpy.random, which are seeded, and not from a generator of its own"
            )


def is_dataset(data: Any) -> bool:
    """Return whether a split is given as a Dataset or a DataLoader."""
    return isinstance(data, (Dataset, DataLoader))


def tensor_of(value: Any) -> Tensor:
    """Convert arrays, numbers and tensors; numpy's default types become torch's."""
    if isinstance(value, Tensor):
        return value.detach() if value.requires_grad else value
    array = np.asarray(value)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    elif array.dtype.kind in "iu" and array.dtype != np.uint8:
        array = array.astype(np.int64)
    return torch.tensor(array)


def _length(what: str, data: Any) -> int:
    if isinstance(data, IterableDataset):
        raise UserError(
            f"{what} is an IterableDataset, whose examples have no numbers, so that their order cannot be a function "
            "of a trial's seed: write a Dataset with __len__ and __getitem__"
        )
    try:
        count = len(data)
    except (TypeError, NotImplementedError):
        raise UserError(f"{what} has no length: write __len__, from which the order of the examples is made") from None
    if count < 1:
        raise UserError(f"{what} is empty: expected examples")
    return count


def _collate_of(loader: DataLoader[Any]) -> Callable[[list[Any]], Any] | None:
    """Return a collate function of a person's own; those of PyTorch do what is done without any."""
    return None if loader.collate_fn in (default_collate, default_convert) else loader.collate_fn


def _check_loader(what: str, loader: DataLoader[Any], batch_size: int, train: bool) -> None:
    sampler = loader.sampler
    if isinstance(loader.dataset, IterableDataset):
        return  # which is refused in words of its own
    if not isinstance(sampler, (RandomSampler, SequentialSampler)):
        raise UserError(
            f"{what} has a {type(sampler).__name__}, and the order of the examples is a function of the trial's seed: "
            "leave the sampler out, and put weights into the loss"
        )
    if train and loader.batch_size not in (None, batch_size):
        raise UserError(
            f"{what} has batch_size {loader.batch_size}, and the problem {batch_size}: state the same in both"
        )


def _first(wrong: Tensor) -> int:
    """Return the first example, on the first axis, of which something is wrong."""
    return int(wrong.reshape(len(wrong), -1).any(dim=1).nonzero()[0])


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[Callable[[], bool]]:
    """Seed all generators in this block, and put them back afterwards.

    Yields:
        a function that says whether one of them has been used since.
    """
    numpy_state, python_state = np.random.get_state(), python.getstate()
    with torch_seeded(seed & 0xFFFFFFFF):
        python.seed(seed & 0xFFFFFFFF)
        np.random.seed(seed & 0xFFFFFFFF)
        begin = _states()
        try:
            yield lambda: _states() != begin
        finally:
            np.random.set_state(numpy_state)
            python.setstate(python_state)


def _states() -> tuple[object, ...]:
    kind, keys, place, *rest = np.random.get_state()
    torchs = torch.get_rng_state().numpy().tobytes()
    return torchs, python.getstate(), kind, np.asarray(keys).tobytes(), place, *rest
