"""Seed torch's generators for code of a person that draws from them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def torch_seeded(seed: int) -> Iterator[None]:
    """Seed torch's generators in this block, and put that of the CPU back afterwards.

    `torch.manual_seed` also writes down the stack of its caller for each kind of device that is not in use, which takes
    longer than building a small model. Without any such device there is nothing to seed but the CPU.

    Args:
        seed: up to 64 bits.
    """
    with torch.random.fork_rng(devices=[]):
        if _accelerated():
            torch.manual_seed(seed)
        else:
            torch.default_generator.manual_seed(seed)
        yield


@functools.cache
def _accelerated() -> bool:
    """Whether this machine has a device other than the CPU."""
    return torch.accelerator.is_available()
