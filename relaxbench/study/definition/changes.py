"""Compare a stored specification with a new one: what may change in a study that has begun, and what may not.

Looks, budgets, spaces, the tuning budget, the margin and the baseline are part of the guarantee: they are declared
before any result is seen. Methods and problems may be added; their comparisons then share the level with the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EXTENDABLE = ("problems", "methods", "more_blocks", "exploit", "recommend", "repetitions", "method")
"""Keys that may grow in a study that has begun."""
FREE = ("description", "controls", "flatness")
"""Keys that may change at any time: they affect reporting only, or measures taken from now on."""

DECLARED = ("looks", "trials", "budget", "budgets", "space", "margin", "baseline")
"""Keys on which the guarantee of the verdicts rests."""


def merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Merge a new specification into a stored one.

    Returns:
        the differences that keep the stored study from continuing as the new one, one line each; the merged
        specification.
    """
    refused: list[str] = []
    merged = dict(old)
    for key in sorted(old.keys() | new.keys()):
        before: Any = old.get(key)
        after: Any = new.get(key)
        if key in FREE:
            merged[key] = after
        elif key in ("problems", "methods"):
            merged[key] = [*before, *(name for name in after if name not in before)]
        elif key == "method":
            both = sorted(before.keys() & after.keys())
            refused += [f"method.{n}: {before[n]} → {after[n]}" for n in both if before[n] != after[n]]
            merged[key] = {**before, **after}
        elif key in EXTENDABLE:
            if after < before:
                refused.append(f"{key}: {before} → {after} (may grow, not shrink)")
            merged[key] = after
        elif before != after:
            declared = " (declared before the study began)" if key in DECLARED else ""
            refused.append(f"{key}: {before} → {after}{declared}")
    return refused, merged
