"""Check the arguments of a user's problem: a wrong one would fail later, in words that do not name it."""

from __future__ import annotations

import math
import re
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from relaxbench.errors import UserError

WHOLE = ("batch_size", "budget", "rounds", "most_rounds", "statistics_limit")
"""Arguments that count something."""
LONGEST_NAME = 200
"""Characters of a problem's name, as in study files."""
LARGEST = 10**12
"""Of a number of gradients, examples or measurements, as in study files."""


def check(name: object, title: object, data: object, space: object, numbers: Mapping[str, object]) -> None:
    """Check names, the data function, ranges, positive numbers, and those that must be whole.

    Raises:
        UserError: for the first one that is wrong.
    """
    for key, text in (("name", name), ("title", title)):
        if not isinstance(text, str) or not text.isprintable() or (key == "name" and text.strip() != (text or None)):
            raise UserError(f"problem {name!r}: {key} = {text!r}: expected a text of printable characters")
    if len(str(name)) > LONGEST_NAME or str(name).endswith(".py"):
        raise UserError(
            f"problem {name!r}: expected a name of at most {LONGEST_NAME} characters that does not end in .py, "
            "which stands for a file"
        )
    for key, value in numbers.items():
        if key == "margin":
            check_margin(str(name), value)
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise UserError(f"problem {name!r}: {key} = {value!r}: expected a positive number")
        if key not in WHOLE:
            continue
        if not isinstance(value, int):
            raise UserError(f"problem {name!r}: {key} = {value!r}: expected a whole number")
        if value > LARGEST:
            raise UserError(f"problem {name!r}: {key} = {value}: expected at most {LARGEST:,}")
    if not callable(data):
        raise UserError(f"problem {name!r}: data is {type(data).__name__}: expected a function that returns the splits")
    if space is not None and not isinstance(space, Mapping):
        raise UserError(f"problem {name!r}: space = {space!r}: expected names with (low, high)")
    for key, bounds in (space or {}).items():
        if not isinstance(bounds, tuple | list) or len(bounds) != 2:
            raise UserError(f"problem {name!r}: space of {key} = {bounds!r}: expected (low, high)")


def check_margin(name: str, margin: object) -> None:
    """Check that a margin is a positive number, or a ratio below 100 %.

    Raises:
        UserError: if it is neither.
    """
    share = None
    if isinstance(margin, str) and (matched := re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*%\s*", margin)):
        share = float(matched[1])
    number = margin if isinstance(margin, int | float) and not isinstance(margin, bool) else 0
    if not (0 < number < math.inf if share is None else 0 < share < 100):
        raise UserError(
            f"problem {name!r}: margin = {margin!r}: expected a positive number, or a ratio above 0 and below 100 %, "
            'such as "10 %"'
        )


def check_texts(name: str, texts: Mapping[str, object]) -> None:
    """Check what pages show in one line.

    Raises:
        UserError: for the first one that is wrong.
    """
    for key, text in texts.items():
        if not isinstance(text, str) or not text.isprintable():
            raise UserError(f"problem {name!r}: {key} = {text!r}: expected a text of printable characters")


def flag(name: str, key: str, value: object) -> bool:
    """Return an argument that is true or false.

    Raises:
        UserError: if it is neither.
    """
    if not isinstance(value, bool):
        raise UserError(f"problem {name!r}: {key} = {value!r}: expected True or False")
    return value


def failure(error: Exception) -> str:
    """Say what an error is and where it was raised: ValueError: too few, in data.py, line 3."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    reason = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}{f': {reason}' if reason else ''}, in {last.filename}, line {last.lineno}"


def splits(name: str, load: Callable[[], Any]) -> Mapping[str, Any]:
    """Return what the data function gives.

    Raises:
        UserError: if it fails, with the line that failed, or gives no mapping.
    """
    try:
        given = load()
    except (UserError, MemoryError):  # these say what is wrong themselves
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename:  # so does this
            raise
        raise UserError(f"problem {name!r}: data() fails ({failure(error)}): mend it") from error
    if not isinstance(given, Mapping):
        raise UserError(
            f"problem {name!r}: data() gives {type(given).__name__}: expected "
            '{"train": (inputs, labels), "validation": …, "test": …}'
        )
    return given
