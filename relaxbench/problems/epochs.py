"""Mini-batches of a training set, drawn without replacement."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from relaxbench import random
from relaxbench.problems.losses import Batch

Orders = dict[tuple[int, int], Tensor]
"""(seed, epoch) → int64 ``[N]``, the order of the examples."""


class EpochOrder:
    """Which examples are in a mini-batch, without replacement.

    Epoch e of a member visits the training set in an order that is a function of (seed, e) alone. The last, incomplete
    batch of an epoch is dropped; every epoch drops other examples.

    Args:
        count: N, training examples.
        batch_size: examples per mini-batch.
        seeds: K seeds, one per member.
        first: number of each member's first mini-batch in this round.
        steps: mini-batches of the round.
        orders: kept from earlier rounds. Orders that this round needs are added, all others are removed.
        device: where the orders are.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seeds: Sequence[int],
        first: Sequence[int],
        steps: int,
        orders: Orders,
        device: torch.device,
    ) -> None:
        self.size = batch_size
        self.per_epoch = count // batch_size
        epochs = (steps - 1) // self.per_epoch + 2  # a round may begin at the end of one epoch
        base = [f // self.per_epoch for f in first]
        pairs = [(s, b + e) for s, b in zip(seeds, base, strict=True) for e in range(epochs)]
        missing = [pair for pair in pairs if pair not in orders]
        if missing:
            seed, epoch = (torch.tensor(column)[:, None].to(device) for column in zip(*missing, strict=True))
            new = random.permutation(random.key(seed, random.ORDER, epoch), count)
            orders.update(zip(missing, new, strict=True))
        for pair in orders.keys() - set(pairs):  # epochs that are over
            del orders[pair]
        self.order = torch.stack([orders[pair] for pair in pairs]).view(len(seeds), epochs * count)
        self.count = count
        self.base = torch.tensor(base)[:, None].to(device)
        self.seeds = torch.tensor(list(seeds))[:, None].to(device)
        self.offsets = torch.arange(batch_size, device=device)

    def rows(self, number: Tensor) -> Tensor:
        """Return which training examples are in the mini-batches with these numbers, int64 ``[K, B]``."""
        epoch, place = number // self.per_epoch - self.base, number % self.per_epoch
        return self.order.gather(1, epoch * self.count + place * self.size + self.offsets)


class EpochSampler(EpochOrder):
    """Mini-batches of tensors.

    Args:
        train: the training split, ``{"x": [N, …], "y": [N, …]}``.
        batch_size: examples per mini-batch.
        seeds: K seeds, one per member.
        first: number of each member's first mini-batch in this round.
        steps: mini-batches of the round.
        orders: see `EpochOrder`.
    """

    def __init__(
        self,
        train: Batch,
        batch_size: int,
        seeds: Sequence[int],
        first: Sequence[int],
        steps: int,
        orders: Orders,
    ) -> None:
        super().__init__(len(train["x"]), batch_size, seeds, first, steps, orders, train["x"].device)
        self.train = train

    def batch(self, number: Tensor) -> Batch:
        """Return the mini-batches with these numbers, int64 ``[K, 1]``: x, y, seed and step of every member."""
        rows = self.rows(number)
        x, y = (_select(self.train[name], rows) for name in ("x", "y"))
        return {"x": x, "y": y, "seed": self.seeds[:, 0], "step": number[:, 0]}


def _select(values: Tensor, rows: Tensor) -> Tensor:
    """Return ``values[rows]``, ``[K, B, …]``, in a fifth to a half of the time that indexing takes for many members."""
    return values.index_select(0, rows.flatten()).view(*rows.shape, *values.shape[1:])
