"""Running a suite without pytest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """What one check of a suite found.

    Attributes:
        name: what is required, in words.
        passed: whether it is so.
        reason: why not; "" where it is.
        seconds: it took.
    """

    name: str
    passed: bool
    reason: str
    seconds: float


def run(suite: Any) -> Iterator[Check]:
    """Every ``test_…`` of a suite's object, in the order of its class."""
    for name in dict.fromkeys(name for cls in reversed(type(suite).__mro__) for name in vars(cls)):
        if not name.startswith("test_"):
            continue
        start, reason = time.perf_counter(), ""
        try:
            getattr(suite, name)()
        except AssertionError as error:
            reason = str(error) or "it is not so"
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}".rstrip(": ")
        yield Check(name.removeprefix("test_").replace("_", " "), not reason, reason, time.perf_counter() - start)


def require(condition: bool, message: str) -> None:
    """An assertion that also holds under ``python -O``.

    Raises:
        AssertionError: with the message.
    """
    if not condition:
        raise AssertionError(message)
