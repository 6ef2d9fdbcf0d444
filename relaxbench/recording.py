"""Whether the operations of a step are being recorded, to be compiled and run again on other numbers.

Code that chooses its operations by the numbers in a tensor must not do so while it is recorded: the recording would
hold for these numbers only. Recording also ends where a number of a tensor is read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

_active = False


def recording() -> bool:
    """Return whether operations are recorded, by `recorded` or by `torch.compile`."""
    return torch.compiler.is_compiling() or _active


@contextlib.contextmanager
def recorded() -> Iterator[None]:
    """Run the code in this block as it must run while it is recorded."""
    global _active
    before, _active = _active, True
    try:
        yield
    finally:
        _active = before
