"""Start processes that do not import the program that starts them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def main_unimported() -> Iterator[None]:
    """Keep processes that are started in this context from importing the program that starts them.

    They need nothing of it, and a script that begins a study without ``if __name__ == "__main__"`` would begin it again
    in each of them.
    """
    program = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program
