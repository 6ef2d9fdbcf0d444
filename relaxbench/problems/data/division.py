"""Divide rows into splits, the same on every machine and with every version of every library."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

SHARES = (0.6, 0.2, 0.2)
"""Shares of the rows for training, validation and test."""


def divide(labels: Sequence[int], name: str) -> dict[str, list[int]]:
    """Divide rows with the same shares of every label; within a label they are ordered by a hash of their numbers.

    Args:
        labels: one per row.
        name: of the data; other data are ordered in another way.
    """
    ranks = [hashlib.blake2b(f"{name} {i}".encode(), digest_size=8).hexdigest() for i in range(len(labels))]
    members: dict[int, list[int]] = {label: [] for label in sorted(set(labels))}
    for i, label in enumerate(labels):
        members[label].append(i)
    rows: dict[str, list[int]] = {split: [] for split in ("train", "validation", "test")}
    for same in members.values():
        same.sort(key=lambda i: ranks[i])
        first, second = round(SHARES[0] * len(same)), round((SHARES[0] + SHARES[1]) * len(same))
        for split, part in zip(rows, (same[:first], same[first:second], same[second:]), strict=True):
            rows[split] += part
    return rows
