"""The splits of a problem on a device: those in memory are moved there once, others piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from relaxbench import random
from relaxbench.problems.datasets import Pair
from relaxbench.problems.losses import Batch
from relaxbench.problems.splits import Split

STATISTICS = "statistics"
"""The training examples on which batch normalization is measured."""


class Placed:
    """Splits on devices.

    Args:
        splits: by name.
    """

    def __init__(self, splits: Mapping[str, Split]) -> None:
        self._splits = splits
        self._kept: dict[tuple[str, str, int], Batch] = {}

    def whole(self, name: str, device: torch.device, statistics: int) -> Batch:
        """Return a whole split; one that is not in memory is read each time.

        Args:
            name: of the split, or `STATISTICS`.
            device: where it is needed.
            statistics: number of examples for batch normalization, which the budget sets.
        """
        place = (name, str(device), statistics if name == STATISTICS else 0)
        if place in self._kept:
            return self._kept[place]
        split = self._of(name)
        batch = _batch(split.part(self._rows(statistics) if name == STATISTICS else slice(None)), device)
        if split.held is not None:
            self._kept[place] = batch
        return batch

    def part(self, name: str, rows: slice | Tensor, device: torch.device) -> Batch:
        """Return some examples of a split that is not in memory."""
        return _batch(self._splits[name].part(rows), device)

    def pieces(self, name: str, device: torch.device, statistics: int, size: int) -> Iterator[Batch]:
        """Yield a split that is not in memory in pieces, see `whole`."""
        rows = self._rows(statistics) if name == STATISTICS else None
        yield from (_batch(pair, device) for pair in self._of(name).pieces(rows, size))

    def held(self, name: str) -> bool:
        """Return whether a split is in memory."""
        return self._of(name).held is not None

    def _of(self, name: str) -> Split:
        return self._splits["train" if name == STATISTICS else name]

    def _rows(self, statistics: int) -> Tensor:
        words = random.key(torch.tensor([0]), random.DATA, torch.tensor([0]))
        return random.permutation(words, self._splits["train"].count)[:statistics]


def _batch(pair: Pair, device: torch.device) -> Batch:
    x, y = pair
    return {"x": x.to(device), "y": y.to(device)}
