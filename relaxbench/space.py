"""Search spaces: the range of every hyperparameter, from the rule and the study file to the figure.

A *space* is what a study searches: names of hyperparameters and their ranges. What it does not search is *fixed*. The
values of one trial are its *params*.
"""

# This module lies below all rooms and needs neither torch nor Optuna. The rules (torch) declare these ranges, the study
# stores them, the coordination (no torch) samples from them and the report (no torch) draws them: all share one type.

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypedDict

Value = float | int | str
"""The value of a hyperparameter in a trial; a choice is the name of its option."""


@dataclass(frozen=True)
class Float:
    """A real number in [low, high].

    Attributes:
        low, high: the ends of the range that is searched.
        default: used where the hyperparameter is neither searched nor fixed.
        log: whether it is searched on a logarithmic scale.
        above: whether 0 is forbidden. Negative values always are.
        below: every value, fixed ones too, is smaller than this.
    """

    low: float
    high: float
    default: float
    log: bool = False
    above: bool = False
    below: float = math.inf


@dataclass(frozen=True)
class Int:
    """An integer: low, low + step, …, high.

    Attributes:
        low, high: the ends of the range that is searched.
        default: used where the hyperparameter is neither searched nor fixed.
        step: the distance of two neighbouring values.
    """

    low: int
    high: int
    default: int
    step: int = 1


@dataclass(frozen=True)
class Choice:
    """One of a few named options.

    Attributes:
        options: the names that are searched.
        default: used where the hyperparameter is neither searched nor fixed.
    """

    options: tuple[str, ...]
    default: str


Hyperparameter = Float | Int | Choice
Space = Mapping[str, Hyperparameter]


class StoredFloat(TypedDict):
    """A `Float` in a study's manifest."""

    kind: Literal["float"]
    low: float
    high: float
    log: bool


class StoredInt(TypedDict):
    """An `Int` in a study's manifest; `log` is always False."""

    kind: Literal["int"]
    low: int
    high: int
    step: int
    log: bool


class StoredChoice(TypedDict):
    """A `Choice` in a study's manifest."""

    kind: Literal["categorical"]
    choices: list[str]


StoredRange = StoredFloat | StoredInt | StoredChoice
StoredSpace = Mapping[str, StoredRange]


def to_stored(space: Space) -> dict[str, StoredRange]:
    """Convert a space to the plain values that a study's manifest holds.

    The manifest holds the ranges alone: no defaults, and no limits of values outside the range.
    """
    return {name: _stored(declared) for name, declared in space.items()}


def from_stored(stored: StoredSpace) -> dict[str, Hyperparameter]:
    """Convert the ranges of a manifest back to a space.

    The manifest holds no defaults: here the default of a number is its low end, that of a choice its first option.
    """
    return {name: _declared(about) for name, about in stored.items()}


def _stored(declared: Hyperparameter) -> StoredRange:
    if isinstance(declared, Choice):
        return {"kind": "categorical", "choices": list(declared.options)}
    if isinstance(declared, Int):
        return {"kind": "int", "low": declared.low, "high": declared.high, "step": declared.step, "log": False}
    return {"kind": "float", "low": declared.low, "high": declared.high, "log": declared.log}


def _declared(about: StoredRange) -> Hyperparameter:
    if about["kind"] == "categorical":
        options = tuple(map(str, about["choices"]))
        return Choice(options, options[0])
    if about["kind"] == "int":
        return Int(int(about["low"]), int(about["high"]), int(about["low"]), int(about.get("step", 1)))
    low, high = float(about["low"]), float(about["high"])
    return Float(low, high, low, bool(about.get("log", False)))
