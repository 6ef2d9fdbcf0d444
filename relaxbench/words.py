"""Small words that many rooms need."""

from __future__ import annotations

from typing import Any


def counted(count: Any, noun: str) -> str:
    """A number and what it counts: 1 block, 1,200 blocks, 2 studies."""
    count = int(count)
    many = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else many}"
