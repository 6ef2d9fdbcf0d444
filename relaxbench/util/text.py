"""Small words that many rooms need."""

from __future__ import annotations

from typing import Any


def counted(count: Any, noun: str) -> str:
    """A number and what it counts: 1 block, 1,200 blocks, 2 studies."""
    count = int(count)
    many = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else many}"


def duration(seconds: float) -> str:
    """Seconds for a person."""
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
