"""A run of a script by itself, with the method, budget and ranges of a study file."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

from relaxbench.errors import UserError, unknown
from relaxbench.loop.job import Job
from relaxbench.loop.spaces import middle, space_of, value_of


def job_of(file: Path, asked: Job) -> Job:
    """Return the job of a method of a study file: the middle of its ranges, and what it fixes.

    Args:
        file: the study file.
        asked: method and seed, and params that replace those of the file.

    Raises:
        UserError: if the file cannot be read, or has no such method.
    """
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UserError(f"study file {str(file)!r} cannot be read: {error}") from None
    methods, script = values.get("method", {}), values.get("script", {})
    method = asked.method or str(values.get("baseline", ""))
    if method not in methods:
        raise unknown(f"method in {file}:", method, methods)
    table, integer, linear = methods[method], script.get("integer", []), script.get("linear", [])
    ranges = {**values.get("space", {}), **table.get("space", {})}
    fixed = {name: value_of(name, value, integer) for name, value in table.get("fixed", {}).items()}
    ranges = {name: bounds for name, bounds in ranges.items() if name not in fixed}
    params = {**middle(space_of(ranges, integer, linear)), **fixed, **asked.params}
    return replace(asked, method=method, params=params, budget=values.get("budget", asked.budget))
