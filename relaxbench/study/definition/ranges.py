"""Ranges as study files and problems give them, applied to declared hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from relaxbench.errors import UserError, unknown
from relaxbench.optim.hyper import OPTIONS
from relaxbench.space import Choice, Float, Hyperparameter, Int

Number = Annotated[float, Field(strict=True)]

MOST_STEPS = 100_000
"""Of an integer; a trial of so many gradients per step is longer than any budget here."""

Bounds = list[Number] | list[str]
"""A range in a study file: ``[low, high]``, ``[low, high, step]`` of integers, or the options of a choice."""


def narrow(declared: Hyperparameter, name: str, bounds: Sequence[float | str]) -> Hyperparameter:
    """Return a declared hyperparameter that is searched over another range.

    Args:
        declared: by the rule.
        name: of the hyperparameter.
        bounds: see `Bounds`.

    Raises:
        UserError: if the range is empty, reversed, of the wrong kind, or impossible on the declared scale.
    """
    if not bounds:
        raise UserError(f"range {name} = []: expected {'choices' if isinstance(declared, Choice) else '[low, high]'}")
    if isinstance(declared, Choice):
        return _options(name, bounds)
    if isinstance(declared, Int) and len(bounds) == 3 and not isinstance(step := bounds[2], str):
        bounds = bounds[:2]
        if not (math.isfinite(step) and step >= 1 and step == int(step)):
            raise UserError(f"range {name} = {[*bounds, step]}: expected a step, the third number, of at least 1")
        declared = replace(declared, step=int(step))
    low, high = _ends(name, bounds)
    if isinstance(declared, Int):
        if low < 1 or low != int(low) or high != int(high) or (high - low) % declared.step:
            raise UserError(f"range {name} = [{low:g}, {high:g}]: expected integers ≥ 1 in steps of {declared.step}")
        if high > MOST_STEPS:
            raise UserError(f"range {name} = [{low:g}, {high:g}]: expected integers of at most {MOST_STEPS:,}")
        nearest = min(range(int(low), int(high) + 1, declared.step), key=lambda value: abs(value - declared.default))
        return Int(int(low), int(high), nearest, declared.step)
    return _numbers(declared, name, low, high)


def _options(name: str, bounds: Sequence[float | str]) -> Choice:
    options = tuple(option for option in bounds if isinstance(option, str) and option in OPTIONS[name])
    for option in bounds:
        if option not in options:
            raise unknown(f"choice of {name}", option, OPTIONS[name])
    return Choice(options, options[0])


def _ends(name: str, bounds: Sequence[float | str]) -> tuple[float, float]:
    numbers = [bound for bound in bounds if isinstance(bound, (int, float))]
    if len(bounds) != 2 or len(numbers) != 2:
        raise UserError(f"range {name} = {list(bounds)}: expected [low, high]")
    low, high = numbers
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UserError(f"range {name} = [{low:g}, {high:g}]: expected finite numbers")
    if low >= high:
        raise UserError(f"range {name} = [{low:g}, {high:g}] is turned around: expected low < high")
    return low, high


def _numbers(declared: Float, name: str, low: float, high: float) -> Float:
    if low < 0 or high >= declared.below:
        below = f" and below {declared.below:g}" if declared.below < math.inf else ""
        raise UserError(f"range {name} = [{low:g}, {high:g}]: expected numbers that are not negative{below}")
    if declared.log and low <= 0:
        raise UserError(f"range {name} = [{low:g}, {high:g}]: searched on a log scale, expected low > 0")
    return replace(declared, low=low, high=high, default=min(max(declared.default, low), high))
