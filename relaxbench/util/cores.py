"""The cores of the CPU that this process may use."""

from __future__ import annotations

import os


def cores() -> int:
    """Return the number of CPU cores that this process may use, also within a container that is given some of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
