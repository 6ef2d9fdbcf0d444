"""Answers of commands as JSON, for other programs: one object alone on the output, with keys that stay."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text (docs/commands.md).")]


def print_json(answer: Mapping[str, Any]) -> None:
    """Print an answer as one JSON object, in ASCII, so that the encoding of a pipe does not matter."""
    print(json.dumps(plain(answer), indent=2, allow_nan=False))


def plain(value: Any) -> Any:
    """Return a value as JSON has it: numbers of NumPy as Python's own, and null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if hasattr(value, "item"):  # a scalar of NumPy, also one that is a float
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    raise TypeError(f"{type(value).__name__} has no form in JSON")
