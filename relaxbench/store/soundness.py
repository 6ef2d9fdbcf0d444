"""Check what a database says of a study before it is believed: a file may be damaged, or made by somebody else.

The types are those of `facts`; keys that it does not name are ignored, and missing ones have neutral values.
"""

from __future__ import annotations

import itertools
import math
import types
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from sqlalchemy import Engine as Database
from sqlalchemy import select

from relaxbench.errors import UserError
from relaxbench.space import from_stored
from relaxbench.store.facts import Manifest, SpecFacts
from relaxbench.store.schema import CURVE_COLUMNS, PHASES, Study
from relaxbench.store.transactions import read

DAMAGED = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
"""What reading damaged values raises: JSON and dates that are none, and what the checks here refuse."""
REPAIR = "restore the database from a backup, or export the study again"

STATUSES = ("waiting", "running", "done", "failed", "pruned")
LARGEST = {
    **dict.fromkeys(("looks", "blocks", "more_blocks", "trials", "exploit", "recommend", "repetitions"), 10_000_000),
    **dict.fromkeys(("budget", "budgets", "rung", "train_examples", "test_examples", "parameters"), 10**12),
}
"""Largest numbers of a specification and of a problem's facts; none is negative."""
NUMBERS_OF_TRIALS = ("id", "block", "number", "parent", "seed")
NUMERIC_MEASURES = ("train_loss", "validation_loss", "validation_metric", "test_loss", "test_metric")


@contextmanager
def sound(study: str) -> Iterator[None]:
    """Turn what a damaged study raises while it is read into one line.

    Raises:
        UserError: naming the study and what is wrong.
    """
    try:
        yield
    except DAMAGED as error:
        raise UserError(f"study {study!r} is damaged ({damage(error)}): {REPAIR}") from None


def damage(error: Exception) -> str:
    """Say in one line what is damaged."""
    words = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    return " ".join(words.split())


def check_stored(database: Database, name: str | None = None) -> None:
    """Check the specification and the manifest of a stored study; None means all studies.

    Raises:
        UserError: naming the study and what is wrong.
    """
    names = read(database, lambda connection: connection.scalars(select(Study.name)).all())
    for known in names if name is None else [known for known in names if known == name]:
        query = select(Study.spec, Study.manifest).where(Study.name == known)
        with sound(known):
            row = read(database, lambda connection, query=query: connection.execute(query).one())  # type: ignore[misc]
            check_facts(row.spec, row.manifest)


def check_facts(spec: Any, manifest: Any) -> None:
    """Check a study's specification and manifest.

    Raises:
        ValueError: naming the first value that is wrong.
    """
    if isinstance(spec, dict) and spec.get("baseline") is None:
        spec = {key: value for key, value in spec.items() if key != "baseline"}  # a study may have none
    for where, value, hint in (("specification", spec, SpecFacts), ("manifest", manifest, Manifest)):
        _check(value, hint, where)
    looks = spec.get("looks", [])
    if any(after <= before for before, after in itertools.pairwise(looks)):
        raise ValueError(f"specification.looks = {looks!r}: expected numbers that rise")
    _check(spec.get("blocks"), int | None, "specification.blocks")
    for name, method in (manifest.get("methods") or {}).items():
        for place in (method.get("space", {}), *method.get("spaces", {}).values()):
            _check_space(place, f"manifest.methods.{name}.space")


def check_trials(rows: Iterable[Any]) -> None:
    """Check the rows of a study's trials.

    Raises:
        ValueError: naming the first trial and value that are wrong.
    """
    for row in rows:
        for key in NUMBERS_OF_TRIALS:
            value = getattr(row, key)
            if type(value) is not int or value < 0:
                raise ValueError(f"trial {row.id}: {key} = {value!r}: expected a whole number")
        for key, known in (("phase", PHASES), ("status", STATUSES)):
            if getattr(row, key) not in known:
                raise ValueError(f"trial {row.id}: {key} = {getattr(row, key)!r}: expected one of {', '.join(known)}")
        for key in ("params", "measures", "ledger"):
            if not isinstance(getattr(row, key), dict):
                raise ValueError(f"trial {row.id}: {key} = {getattr(row, key)!r}: expected a table")
        numbers = {key: row.measures.get(key) for key in NUMERIC_MEASURES} | row.ledger
        for key, value in {"value": row.value, **numbers}.items():
            if value is not None and not _is_number(value):
                raise ValueError(f"trial {row.id}: {key} = {value!r}: expected a finite number")
        for key, value in row.params.items():
            if not (value is None or isinstance(value, str) or _is_number(value)):
                raise ValueError(f"trial {row.id}: params.{key} = {value!r}: expected a number or a text")


def check_curve(trial: int, data: Any) -> None:
    """Check a packed curve: rows of float32 numbers of equal length.

    Raises:
        ValueError: if it has another size.
    """
    unit = 4 * len(CURVE_COLUMNS)
    if not isinstance(data, bytes) or len(data) % unit:
        size = len(data) if isinstance(data, bytes) else repr(data)
        raise ValueError(f"the curve of trial {trial} has {size} bytes: expected a multiple of {unit}")


def check_answers(trial: int, packed: bytes, examples: int | None) -> None:
    """Check that a trial's packed answers are as many as its test examples, rounded up to whole bytes.

    Raises:
        ValueError: if they are not.
    """
    if examples is not None and len(packed) != (examples + 7) // 8:
        raise ValueError(f"trial {trial} has {8 * len(packed):,} answers, and its problem {examples:,} test examples")


def _check(value: Any, hint: Any, where: str) -> None:
    """Check a value of plain JSON against a type."""
    origin, arguments = get_origin(hint), get_args(hint)
    key = where.rpartition(".")[2].partition("[")[0]
    if hint in (Any, object):
        return
    if origin in (Union, types.UnionType):
        if not any(_fits(value, argument, where) for argument in arguments):
            raise _wrong(where, value, " or ".join(map(_words, arguments)))
    elif is_typeddict(hint):
        if not isinstance(value, dict):
            raise _wrong(where, value, "a table")
        for name, inner in _hints(hint).items():
            if name in value:
                _check(value[name], inner, f"{where}.{name}")
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise _wrong(where, value, "a table")
        for name, inside in value.items():
            _check(inside, arguments[1], f"{where}.{name}")
    elif origin is list:
        if not isinstance(value, list):
            raise _wrong(where, value, "a list")
        for place, inside in enumerate(value):
            _check(inside, arguments[0], f"{where}[{place}]")
    elif not _is_plain(value, hint, origin, arguments) or not _in_range(value, key):
        raise _wrong(where, value, _words(hint))


def _is_plain(value: object, hint: Any, origin: Any, arguments: tuple[Any, ...]) -> bool:
    if origin is Literal:
        return value in arguments
    if hint is float:
        return _is_number(value) and not isinstance(value, bool)
    if hint in (None, type(None)):
        return value is None
    return type(value) is hint


def _in_range(value: object, key: str) -> bool:
    return key not in LARGEST or not isinstance(value, int) or 0 <= value <= LARGEST[key]


def _fits(value: object, hint: Any, where: str) -> bool:
    try:
        _check(value, hint, where)
    except ValueError:
        return False
    return True


def _wrong(where: str, value: object, expected: str) -> ValueError:
    text = repr(value)
    return ValueError(f"{where} = {text if len(text) <= 60 else text[:60] + '…'}: expected {expected}")


def _words(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    plain = {str: "a text", int: "a whole number in range", float: "a finite number", bool: "true or false"}
    return plain.get(hint, "null" if hint in (None, type(None)) else "a table or list")


@cache
def _hints(hint: Any) -> dict[str, Any]:
    return get_type_hints(hint)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _check_space(space: Mapping[str, Any], where: str) -> None:
    try:
        from_stored(space)
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{where}: {error!r} in a range") from None
