"""Write plain values as TOML: Python's own library only reads it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any


def toml_lines(table: Mapping[str, Any]) -> list[str]:
    """Return the lines of a table, with tables in it in one line each.

    Raises:
        TypeError: for a value that TOML has no form for.
    """
    return [f"{toml_key(key)} = {toml_value(value)}" for key, value in table.items()]


def toml_value(value: Any) -> str:
    """Return a number, a text, a path, a list or a table as TOML; numbers of numpy and of PyTorch as those of Python.

    Raises:
        TypeError: for any other value.
    """
    if isinstance(value, Mapping):
        return f"{{ {', '.join(toml_lines(value))} }}" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, str | PurePath):
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    if not isinstance(value, bool | int | float) and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # inf and nan are written as in Python
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise TypeError(f"a value of type {type(value).__name__} has no form in TOML")


def toml_key(key: str) -> str:
    """Return a key, in quotes where it needs them.

    Raises:
        TypeError: if it is no text.
    """
    if not isinstance(key, str):
        raise TypeError(f"the key {key!r} is no text")
    return key if key.replace("-", "").replace("_", "").isalnum() and key.isascii() else toml_value(key)
