"""A run of a script by itself, with the method, budget and ranges of a study file."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

from relaxbench.errors import UserError, unknown
from relaxbench.loop.arguments import budget_of
from relaxbench.loop.job import Job
from relaxbench.loop.spaces import middle, space_of, value_of


def job_of(file: Path, asked: Job) -> Job:
    """Return the job of a method of a study file: the middle of its ranges, and what it fixes.

    Args:
        file: the study file.
        asked: method and seed, and params that replace those of the file.

    Raises:
        UserError: if the file cannot be read, is of no script, or has no such method or budget.
    """
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UserError(f"study file {str(file)!r} cannot be read: {error}") from None
    if not isinstance(values.get("script"), dict):
        raise UserError(
            f"study file {str(file)!r} has no table [script], so it is of no script: name the study file of this one, "
            "or leave `study` out and give method, params and budget"
        )
    methods, script = values.get("method", {}), values["script"]
    method = asked.method or str(values.get("baseline", "sgd"))
    if method not in methods:
        raise unknown(f"method in {file}:", method, methods)
    table, integer, linear = methods[method], script.get("integer", []), script.get("linear", [])
    ranges = {**values.get("space", {}), **table.get("space", {})}
    fixed = {name: value_of(name, value, integer) for name, value in table.get("fixed", {}).items()}
    ranges = {name: bounds for name, bounds in ranges.items() if name not in fixed}
    params = {**middle(space_of(ranges, integer, linear)), **fixed, **asked.params}
    try:
        budget = budget_of(values.get("budget", asked.budget), f"study file {str(file)!r}: budget")
    except (TypeError, ValueError) as error:
        raise UserError(str(error)) from None
    return replace(asked, method=method, params=params, budget=budget)
