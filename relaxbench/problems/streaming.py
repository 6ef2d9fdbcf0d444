"""Mini-batches and pieces of a Dataset, read when they are needed, by this process or ahead of it by others."""

from __future__ import annotations

import itertools
import multiprocessing as mp
import pickle
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from relaxbench.errors import UserError
from relaxbench.plugins import files_run, run_file
from relaxbench.problems.datasets import Pair, Reader
from relaxbench.problems.epochs import EpochOrder, Orders
from relaxbench.problems.losses import Batch
from relaxbench.util.seeds import derive
from relaxbench.util.unimported import main_unimported

Request = tuple[Sequence[int], int | None]
"""Numbers of examples, and the seed of their random numbers; None for examples that are always the same."""
FEWEST = 4
"""Requests that are worth processes of their own."""


class DatasetSampler(EpochOrder):
    """Mini-batches of a Dataset, which are read anew for every gradient.

    The random numbers of a mini-batch are a function of the member's seed and its number, whoever reads it.

    Args:
        reader: of the training split.
        batch_size: examples per mini-batch.
        seeds: K seeds, one per member.
        first: number of each member's first mini-batch in this round.
        steps: mini-batches of the round.
        orders: see `EpochOrder`; they are on the CPU.
        device: where the mini-batches are needed.
    """

    def __init__(
        self,
        reader: Reader,
        batch_size: int,
        seeds: Sequence[int],
        first: Sequence[int],
        steps: int,
        orders: Orders,
        device: torch.device,
    ) -> None:
        super().__init__(reader.count, batch_size, seeds, first, steps, orders, torch.device("cpu"))
        self._reader, self._device = reader, device
        self._seeds_there = self.seeds[:, 0].to(device)
        self._waiting: dict[tuple[int, int], Pair] = {}
        self._requests = Requests(self.order, self.base[:, 0].tolist(), list(seeds), reader.count, batch_size)
        # Neither generator refers to this object: a cycle would be freed late, and its processes end after seconds.
        requests = itertools.starmap(self._requests.of, _places(first, steps))
        self._ahead = Ahead(reader, requests) if reader.workers and steps * len(seeds) >= FEWEST else None
        self._expected = _places(first, steps)

    def batch(self, number: Tensor) -> Batch:
        """Return the mini-batches with these numbers, int64 ``[K, 1]``: x, y, seed and step of every member."""
        numbers = number[:, 0].tolist()
        pairs = [self._pair(k, step) for k, step in enumerate(numbers)]
        x, y = (torch.stack(parts).to(self._device) for parts in zip(*pairs, strict=True))
        return {"x": x, "y": y, "seed": self._seeds_there, "step": number[:, 0]}

    def _pair(self, k: int, number: int) -> Pair:
        """Return the mini-batch of a member: one that was read ahead, while members ask in order, or else anew."""
        if self._ahead is None:
            return answer(self._reader, self._requests.of(k, number))
        for place in [place for place in self._waiting if place[0] == k and place[1] < number]:
            del self._waiting[place]
        while (k, number) not in self._waiting:
            following = next(self._expected, None)
            if following is None:  # asked for once more
                return answer(self._reader, self._requests.of(k, number))
            pair = next(self._ahead, None)
            if pair is None:  # closed, because another one began
                self._ahead = None
                return answer(self._reader, self._requests.of(k, number))
            if following[0] != k or following[1] >= number:
                self._waiting[following] = pair
        return self._waiting[k, number]


@dataclass(frozen=True)
class Requests:
    """The examples and seeds of mini-batches.

    Attributes:
        order: of each member, its epochs one after another.
        base: the first of these epochs.
        seeds: of the members.
        count: training examples.
        size: examples per mini-batch.
    """

    order: Tensor
    base: Sequence[int]
    seeds: Sequence[int]
    count: int
    size: int

    def of(self, k: int, number: int) -> Request:
        """Return the request of a member's mini-batch with a number."""
        epoch, place = divmod(number, self.count // self.size)
        begin = (epoch - self.base[k]) * self.count + place * self.size
        return self.order[k, begin : begin + self.size].tolist(), derive(self.seeds[k], "augment", number)


def _places(first: Sequence[int], steps: int) -> Iterator[tuple[int, int]]:
    """Yield members and numbers of mini-batches in the order in which a round needs them."""
    for step in range(steps):
        yield from ((k, begin + step) for k, begin in enumerate(first))


def read_pieces(reader: Reader, rows: Sequence[int], size: int) -> Iterator[Pair]:
    """Yield held-out examples in pieces of at most `size`."""
    requests = ((rows[i : i + size], None) for i in range(0, len(rows), size))
    if reader.workers and len(rows) > size:
        done = 0
        for pair in Ahead(reader, requests):
            done += size
            yield pair
        if done < len(rows):  # closed, because another one began
            yield from (answer(reader, (rows[i : i + size], None)) for i in range(done, len(rows), size))
    else:
        yield from (answer(reader, request) for request in requests)


def answer(reader: Reader, request: Request) -> Pair:
    """Read what is requested."""
    rows, seed = request
    return reader.fixed(rows) if seed is None else reader.batch(rows, seed)


class Ahead:
    """Yields the answers to requests in their order, read by as many processes as the reader has.

    A process has one of these at a time: those that it forks for another would hold, and end, the queues of the first.

    Args:
        reader: what reads.
        requests: what is read.

    Raises:
        UserError: if the Dataset cannot be sent to a process, if reading fails there, or if a process ends.
    """

    _running: ClassVar[weakref.ref[Ahead] | None] = None

    def __init__(self, reader: Reader, requests: Iterator[Request]) -> None:
        before = Ahead._running and Ahead._running()
        if before:
            before.close()
        self._reader = reader
        # A generator of its own: the loader draws a seed that nothing here uses.
        loader: DataLoader[Any] = DataLoader(
            _Answers(reader),
            batch_size=None,
            sampler=requests,
            num_workers=reader.workers,
            collate_fn=_as_it_is,
            generator=torch.Generator(),
        )
        with nullcontext() if mp.get_start_method() == "fork" else _sent(reader):
            self._answers: Iterator[Any] | None = iter(loader)
        Ahead._running = weakref.ref(self)

    def __iter__(self) -> Iterator[Pair]:
        return self

    def __next__(self) -> Pair:
        if self._answers is None:
            raise StopIteration
        try:
            pair, draws = next(self._answers)
        except StopIteration:
            self.close()
            raise
        except RuntimeError as error:
            self.close()
            if "worker" not in str(error):
                raise
            raise UserError(
                f"{self._reader.what}: a process that reads it has ended ({next(iter(str(error).splitlines()), '')}): "
                "lower num_workers of its DataLoader, which may lack memory"
            ) from error
        if isinstance(pair, UserError):
            self.close()
            raise pair
        self._reader.draws = self._reader.draws or draws
        return pair  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the processes; nothing more is yielded."""
        self._answers = None


class _Answers(Dataset[Any]):
    """Maps a request to its answer, or to the error that reading it raises: a loader would add its own traceback.

    With each comes whether an example drew random numbers, which a reader in another process does not notice.
    """

    def __init__(self, reader: Reader) -> None:
        self._files, self._reader = _Files(), reader  # in this order they arrive in a process that is not forked

    def __getitem__(self, request: Any) -> Any:
        try:
            return answer(self._reader, request), self._reader.draws
        except UserError as error:
            return error, False


class _Files:
    """The files that define problems. Where they are sent, they are run: a Dataset of their classes comes next."""

    def __reduce__(self) -> tuple[Callable[[list[str]], _Files], tuple[list[str]]]:
        return _ran, (files_run(),)


def _ran(files: list[str]) -> _Files:
    for file in files:
        run_file(Path(file), "problem", "a Dataset")
    return _Files()


@contextmanager
def _sent(reader: Reader) -> Iterator[None]:
    """Start processes that are no forks, as on macOS: they have what they are sent, and what they import for that."""
    with main_unimported():
        try:
            pickle.dumps(reader)
        except Exception as error:  # pickle raises many kinds
            raise UserError(
                f"{reader.what} cannot be sent to the processes of num_workers ({type(error).__name__}: "
                f"{next(iter(str(error).splitlines()), '')}): define its class in a module, or set num_workers=0"
            ) from error
        yield


_as_it_is: Callable[[Any], Any] = torch.nn.Identity()
"""A collate function that can be sent to a process."""
