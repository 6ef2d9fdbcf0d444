"""Check the arguments of a user's problem: a wrong one would fail later, in words that do not name it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from relaxbench.errors import UserError

WHOLE = ("batch_size", "budget", "rounds")
"""Arguments that must be whole numbers."""


def check(name: object, title: object, data: object, space: object, numbers: Mapping[str, object]) -> None:
    """Check names, the data function, ranges, and numbers, which must be positive.

    Raises:
        UserError: for the first one that is wrong.
    """
    for key, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise UserError(f"problem {name!r}: {key} = {value!r}: expected a positive number")
    for key, text in (("name", name), ("title", title)):
        if not isinstance(text, str) or not text.isprintable() or (key == "name" and not text):
            raise UserError(f"problem {name!r}: {key} = {text!r}: expected a text of printable characters")
    for key in WHOLE:
        if not isinstance(numbers[key], int):
            raise UserError(f"problem {name!r}: {key} = {numbers[key]!r}: expected a whole number")
    if not callable(data):
        raise UserError(f"problem {name!r}: data is {type(data).__name__}: expected a function that returns the splits")
    if space is not None and not isinstance(space, Mapping):
        raise UserError(f"problem {name!r}: space = {space!r}: expected names with (low, high)")
    for key, bounds in (space or {}).items():
        if not isinstance(bounds, tuple | list) or len(bounds) != 2:
            raise UserError(f"problem {name!r}: space of {key} = {bounds!r}: expected (low, high)")


def splits(name: str, given: Any) -> Mapping[str, Any]:
    """Return what the data function gave.

    Raises:
        UserError: if it is not a mapping.
    """
    if not isinstance(given, Mapping):
        raise UserError(
            f"problem {name!r}: data() gives {type(given).__name__}: expected "
            '{"train": (inputs, labels), "validation": …, "test": …}'
        )
    return given
