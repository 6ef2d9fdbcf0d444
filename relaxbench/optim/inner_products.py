"""Inner products of a few vectors per member, in float64 whatever the vectors' type."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from relaxbench.optim.rule import row_sums

SMALL = 8192
"""Numbers per vector up to which one product of matrices computes all members and pairs."""
BLOCK = 32_768
"""Numbers of a longer vector that are converted together: three vectors of them stay in the processor's cache."""


def gram(vectors: Sequence[Tensor]) -> Tensor:
    """Compute the inner products of n vectors with each other, member by member.

    On the CPU every vector is read once, and in the same order for any K.

    Args:
        vectors: n tensors ``[K, P]``.

    Returns:
        float64 ``[K, n, n]``, symmetric.
    """
    if vectors[0].device.type != "cpu":
        doubles = [v.double() for v in vectors]
        pairs = {(i, j): row_sums(doubles[i] * doubles[j])[:, 0] for i, j in _pairs(len(vectors))}
        return _symmetric(pairs, len(vectors))
    if vectors[0].shape[1] <= SMALL:
        together = torch.stack(list(vectors), dim=1).double()
        return torch.bmm(together, together.transpose(1, 2))
    return torch.stack([_gram_of_member([v[k] for v in vectors]) for k in range(len(vectors[0]))])


def _gram_of_member(vectors: Sequence[Tensor]) -> Tensor:
    pairs, blocks = _pairs(len(vectors)), []
    room = torch.empty(len(vectors), BLOCK, dtype=torch.float64)  # once: fresh memory costs more than the products
    for begin in range(0, vectors[0].numel(), BLOCK):
        several = [v[begin : begin + BLOCK] for v in vectors]
        part = [row[: v.numel()].copy_(v) for row, v in zip(room, several, strict=True)]
        blocks += [part[i].dot(part[j]) for i, j in pairs]
    sums = torch.stack(blocks).view(-1, len(pairs)).sum(dim=0)
    return _symmetric(dict(zip(pairs, sums, strict=True)), len(vectors))


def _pairs(n: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(n) for j in range(i, n)]


def _symmetric(pairs: dict[tuple[int, int], Tensor], n: int) -> Tensor:
    """Arrange numbers ``[…]`` of pairs (i ≤ j) as ``[…, n, n]``."""
    entries = [pairs[min(i, j), max(i, j)] for i in range(n) for j in range(n)]
    together = torch.stack(entries, dim=-1)
    return together.view(*together.shape[:-1], n, n)
