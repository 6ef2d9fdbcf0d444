"""Memory: keep what is freed for the next training step, and look for garbage seldom."""

from __future__ import annotations

import ctypes
import gc
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Stop glibc from returning the activations of a step to the kernel, and fetching fresh pages for the next step.

    For a process that trains on the CPU, where the faults of fresh pages can cost more than half of a step. Nothing is
    changed if glibc's own variables are set, or for another allocator.

    Returns:
        whether anything was changed.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in OWN):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1)) and bool(mallopt(M_MMAP_THRESHOLD, 2**30))


def look_for_garbage_seldom() -> None:
    """Let Python look for cycles of garbage after 20,000 new objects, not after 700.

    A fifth of the start of a process is spent on that otherwise: importing PyTorch makes hundreds of thousands of
    objects, all of which stay.
    """
    gc.set_threshold(20_000, 20, 20)
