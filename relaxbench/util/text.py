"""Numbers and times as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def counted(count: Any, noun: str) -> str:
    """A number with its noun: 1 block, 1,200 blocks, 2 studies."""
    number = int(count)
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def duration(seconds: float) -> str:
    """A time as text: 45 s, 3.0 min, 2.5 h."""
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def listed(values: Sequence[object]) -> str:
    """Values as text: 10; 10 and 20; 10, 20 and 40."""
    *most, last = map(str, values)
    return f"{', '.join(most)} and {last}" if most else last
