"""Say what is wrong with a value of a study file: its file or option, its key, the value, and what was expected."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from relaxbench.errors import UserError, unknown
from relaxbench.study.definition.known import KEYS
from relaxbench.study.definition.script_table import Script
from relaxbench.study.definition.search import Search
from relaxbench.study.definition.track import Track
from relaxbench.trackers.tracker import TRACKERS

FEWEST, MOST = 6, 10_000_000
"""Blocks of a look that are proposed."""
TABLE_OF_RANGES = 'expected "default", "wide" or a table of ranges'
RANGE = "expected [low, high], or a list of choices"
SEARCH = 'expected a table, such as { sampler = "tpe" }'
OF_UNIONS = {
    "margin": 'expected a positive number, or a ratio above 0 and below 100 %, such as "10 %"',
    "flatness": 'expected true, false or "full"',
    "space": "expected a table of ranges, such as { lr = [1e-3, 0.5] }",
    "space.*": RANGE,
    "method.*.space": TABLE_OF_RANGES,
    "method.*.space.*": RANGE,
    "search": SEARCH,
    "method.*.search": SEARCH,
    "method.*.fixed.*": "expected a number, or a choice in quotes",
    "known.params.*": "expected a number, or a choice in quotes",
    "method.*.options.*": "expected true, false, a number or a text",
}
"""Expected values of keys that take several types, where pydantic's errors speak of one type only."""
KINDS = {
    "list_type": "expected a list, such as {example}",
    "dict_type": "expected a table",
    "model_type": "expected a table",
    "string_type": "expected a text in quotes",
    "string_unicode": "expected printable characters, without line breaks",
    "bool_type": "expected true or false",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "literal_error": "expected {expected}",
    "greater_than": "expected a number above {gt:,g}",
    "greater_than_equal": "expected at least {ge:,}",
    "less_than_equal": "expected at most {le:,}",
    "less_than": "expected less than {lt:,}",
    "string_too_short": "expected at least 1 character",
    "string_too_long": "expected at most {max_length} characters",
}
"""Expected values by pydantic's kind of error."""
TO_WRITE = {
    "script.file": 'file = "train.py"',
    "track.to": f'to = "{TRACKERS[0]}" (or {", ".join(TRACKERS[1:])})',
    "known.method": 'method = "sgd"',
    "known.params": "params = { lr = 0.1 }",
}
"""What stands in the place of a key that is missing."""
EXAMPLES = {
    "looks": "[10, 20, 40]",
    "budgets": "[600, 2000]",
    "problems": '["digits-mlp"]',
    "methods": '["sgd", "heat"]',
    "controls": '["lookahead"]',
    "known": "tables [[known]]",
}


def refusal(
    error: ErrorDetails,
    values: Mapping[str, object],
    models: tuple[type[BaseModel], type[BaseModel]],
    where: str,
    names: Mapping[str, str],
) -> UserError:
    """Return pydantic's error in our words.

    Args:
        error: the first one.
        values: that were validated.
        models: of the study, and of a method's table.
        where: the origin of the values.
        names: how messages name keys whose values have another origin.
    """
    path, value = _place(error["loc"], values)
    key = ".".join(str(part) for part in path if isinstance(part, str))
    if error["type"] == "extra_forbidden":
        if path == ["blocks"]:  # the key before studies had looks
            looks = max(FEWEST, value) if isinstance(value, int) and value < MOST else FEWEST
            return UserError(f"{where}: `blocks` is not a key of a study: say `looks = [{looks}]`")
        if path[0] == "script" and len(path) > 1:
            return unknown(f"key in {where}, table [script]:", path[-1], Script.model_fields)
        if path[0] == "track" and len(path) > 1:
            return unknown(f"key in {where}, table [track]:", path[-1], Track.model_fields)
        if path[0] == "known":
            return unknown(f"key in {where}, table [[known]]:", path[-1], KEYS)
        table = f", table [method.{path[1]}]" if path[0] == "method" else ""
        if "search" in path[:-1]:
            table = f"{table[:-1]}.search]" if table else ", table [search]"
            return unknown(f"key in {where}{table}:", path[-1], Search.model_fields)
        known = models[bool(table)].model_fields
        return unknown(f"key in {where}{table}:", path[-1], known if table else [*known, "ablation"])
    if error["type"] == "too_short":
        return UserError(f"{where}: {key} is empty: name at least one")
    if error["type"] == "missing":
        return _missing(path, key, values, where)
    entry = next((f"entry {part + 1} of " for part in path if isinstance(part, int)), "")
    if _pattern(path) == "method.*.space" and isinstance(value, Mapping):
        name, value = next(((n, v) for n, v in value.items() if not _is_range(v)), (None, value))
        if name is not None:
            hint = ", all of them texts" if isinstance(value, list) else "; a fixed value belongs in `fixed`"
            return UserError(f"{where}: {key}.{name} = {value!r}: {RANGE}{hint}")
    option = names.get(str(path[0]))
    shown = value.isoformat() if isinstance(value, dt.date | dt.time) else repr(value)  # as TOML writes dates
    origin = f"{option} {shown}" if option else f"{where}: {entry}{key} = {shown}"
    return UserError(f"{origin}: {_expected(error, key)}")


def _is_range(value: object) -> bool:
    """Return whether a value may be a range: a list of numbers, or of texts."""
    if not isinstance(value, list):
        return False
    numbers = all(isinstance(entry, int | float) and not isinstance(entry, bool) for entry in value)
    return numbers or all(isinstance(entry, str) for entry in value)


def _missing(path: Sequence[int | str], key: str, values: Mapping[str, object], where: str) -> UserError:
    """Return which key is missing, and what to write there."""
    if path == ["problems"] and "script" in values:  # whose file would be the problem
        key = "script.file"
    write = f", such as {TO_WRITE[key]}" if key in TO_WRITE else ""
    entry = next((part + 1 for part in path if isinstance(part, int)), None)
    if entry is not None:
        return UserError(f"{where}: entry {entry} of {path[0]}: the key {path[-1]!r} is missing{write}")
    return UserError(f"{where}: the key {key!r} is missing{write}")


def _place(location: Sequence[int | str], values: Mapping[str, object]) -> tuple[list[int | str], object]:
    """Return the keys that lead to the wrong value, and the value; pydantic's own names of types are no keys.

    A key that takes several types is shown whole, because each of its entries may be right for one of them.
    """
    path: list[int | str] = []
    value: Any = values
    for part in location:
        inside = (isinstance(value, Mapping) and part in value) or (isinstance(value, list) and isinstance(part, int))
        if not inside:
            missing = isinstance(value, Mapping) and part == location[-1] and "[" not in str(part)
            return ([*path, part], None) if missing and part not in ("float", "str") else (path, value)
        if isinstance(part, int) and _pattern(path) in OF_UNIONS:
            break
        path.append(part)
        value = value[part]
    return path, value


def _pattern(path: Sequence[int | str]) -> str:
    """Return a path with stars for the names that a person chooses: ``method.*.fixed.*``."""
    parts = [str(part) for part in path if isinstance(part, str)]
    chosen = {"method": (1, 3), "known": (2,)}.get(parts[0], (1,)) if parts else ()
    return ".".join("*" if place in chosen else part for place, part in enumerate(parts))


def _expected(error: ErrorDetails, key: str) -> str:
    pattern = _pattern(key.split("."))
    if pattern in OF_UNIONS:
        return OF_UNIONS[pattern]
    words = KINDS.get(error["type"])
    if words is None:
        return f"{error['msg'][0].lower()}{error['msg'][1:]}"
    return words.format(example=EXAMPLES.get(key, "[1, 2]"), **error.get("ctx", {}))
