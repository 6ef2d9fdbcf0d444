"""Whether a forward pass serves one member or several, and what is said for the length of a block."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any, TypeVar

Value = TypeVar("Value")

_together: contextvars.ContextVar[bool] = contextvars.ContextVar("together", default=False)


def together() -> contextlib.AbstractContextManager[object]:
    """Declare that the forward pass in this block serves several members, under `torch.vmap`."""
    return within(_together, True)


def is_together() -> bool:
    """Whether the forward pass at hand serves several members."""
    return _together.get()


@contextlib.contextmanager
def within(variable: contextvars.ContextVar[Any], value: Value) -> Iterator[Value]:
    """Set a context variable within a block."""
    token = variable.set(value)
    try:
        yield value
    finally:
        variable.reset(token)
