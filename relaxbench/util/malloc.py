"""Memory: keep what is freed for the next training step, and look for garbage seldom."""

from __future__ import annotations

import ctypes
import gc
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
BLOCK = 31 * 2**20
"""Bytes, below the largest threshold that glibc takes by itself."""
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


def keep_blocks_up_to_32_mib() -> None:
    """Let glibc reuse freed blocks of up to 32 MiB, in a process that is not ours to set up.

    glibc returns a block to the kernel, and fetches fresh pages for the next one, until a block of that size has been
    freed once (mallopt(3), M_MMAP_THRESHOLD: the threshold is dynamic). So one is freed here, of which no page is
    ever used. Settings of the process's owner hold, and other allocators are not changed.
    """
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None)
        libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
        libc.free.argtypes = [ctypes.c_void_p]
        libc.free(libc.malloc(BLOCK))


def look_for_garbage_seldom() -> None:
    """Let Python look for cycles of garbage after 20,000 new objects, not after 700.

    A fifth of the start of a process is spent on that otherwise: importing PyTorch makes hundreds of thousands of
    objects, all of which stay.
    """
    gc.set_threshold(20_000, 20, 20)
