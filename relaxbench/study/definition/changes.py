"""Compare a stored specification with a new one: what may change in a study that has begun, and what may not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EXTENDABLE = ("problems", "methods", "blocks", "trials", "exploit", "recommend", "repetitions", "method")
"""Keys that may grow in a study that has begun."""
FREE = ("description", "controls", "margin", "baseline", "flatness")
"""Keys that may change at any time: they affect reporting only, or measures taken from now on."""


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
            refused.append(f"{key}: {before} → {after}")
    if merged["repetitions"] > 1 and old["blocks"] != new["blocks"]:
        refused.append(f"blocks: {old['blocks']} → {new['blocks']} (fixed in a study with repetitions)")
    return refused, merged
