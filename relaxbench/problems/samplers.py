"""Mini-batches without a data set that is shuffled: all data every time, or data that are drawn anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from relaxbench import random
from relaxbench.problems.losses import Batch

Words = tuple[Tensor, Tensor]
"""Keys of draws, ``[K, 1]`` each, see `random.key`."""


class WholeData:
    """Mini-batches that are the whole data, for every member.

    Args:
        data: all of it, without a first axis K.
    """

    def __init__(self, data: Batch) -> None:
        self.data = data

    def batch(self, number: Tensor) -> Batch:
        """Return all data, with a first axis K, whatever the numbers ``[K, 1]`` are."""
        return {name: value.expand(len(number), *value.shape) for name, value in self.data.items()}


class FreshPoints:
    """Mini-batches that are drawn anew for every gradient: functions of a member's seed and the batch's number.

    Args:
        seeds: K seeds, one per member.
        draw: makes a batch, every tensor with a first axis K, of keys ``[K, 1]``.
        device: where the mini-batches are needed.
    """

    def __init__(self, seeds: Sequence[int], draw: Callable[[Words], Batch], device: torch.device) -> None:
        self.seeds = torch.tensor(list(seeds))[:, None].to(device)
        self.draw = draw

    def batch(self, number: Tensor) -> Batch:
        """Return the mini-batches with these numbers, int64 ``[K, 1]``."""
        return self.draw(random.key(self.seeds, random.DATA + random.FRESH, number))
