"""Declared hyperparameters: what a rule can be given and where a study searches it.

Shared hyperparameters are declared here once, so that every method is tuned over the same range. A rule's
`space` names the ones it uses, beside its mathematics.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Value = float | int | str


@dataclass(frozen=True)
class Float:
    """A real number in [low, high]; `log` says on which scale it is searched.

    A value of it is at least zero, or above zero if `above` says so, and smaller than `below`.
    """

    low: float
    high: float
    default: float
    log: bool = False
    above: bool = False
    below: float = math.inf


@dataclass(frozen=True)
class Int:
    """An integer low, low + step, … high."""

    low: int
    high: int
    default: int
    step: int = 1


@dataclass(frozen=True)
class Choice:
    """One of a few names."""

    options: tuple[str, ...]
    default: str


Hyperparameter = Float | Int | Choice
SearchSpace = Mapping[str, Hyperparameter]
Hyper = Mapping[str, Tensor]
"""Values of a population: a tensor ``[K, 1]`` (or ``[K, P]``) a name; a choice is the index of its option."""

SCHEDULES = ("constant", "step", "cosine", "warmup")
SCOPINGS = ("geometric", "linear", "cosine", "constant")
ANNEALED = ("outer", "inner")

# The shared ranges. A study file may narrow or move one, again for all methods at once.
LR = Float(1e-3, 1.0, 0.1, log=True)
OUTER_LR = Float(0.05, 1.0, 0.5, log=True)
MOMENTUM = Float(0.0, 0.99, 0.9, below=1.0)
OUTER_MOMENTUM = Float(0.0, 0.9, 0.0, below=1.0)
WEIGHT_DECAY = Float(1e-6, 1e-2, 1e-4, log=True)
INNER_STEPS = Int(6, 30, 20, step=2)  # L ≥ 5, because L = 1 is SGD; even, because HEAT draws antithetic pairs
AVERAGING = Float(0.0, 0.95, 0.75, below=1.0)
GAMMA_START = Float(0.03, 300.0, 30.0, log=True, above=True)
GAMMA_END = Float(0.01, 30.0, 1.0, log=True, above=True)
TEMPERATURE = Float(1e-7, 1e-3, 1e-6, log=True)
SCHEDULE = Choice(SCHEDULES, "cosine")
SCOPING = Choice(SCOPINGS[:3], "geometric")  # "constant" is gamma_start = gamma_end, which these three contain
ANNEAL = Choice(ANNEALED, "outer")

OPTIONS: dict[str, tuple[str, ...]] = {"schedule": SCHEDULES, "scoping": SCOPINGS, "anneal": ANNEALED}
"""All values that a named hyperparameter understands, whether searched by default or not."""


def declare(space: SearchSpace) -> None:
    """Make the choices of a rule of one's own known: their numbers in a tensor are their places in `options`.

    Raises:
        ValueError: if a name already stands for other options.
    """
    for name, declared in space.items():
        if isinstance(declared, Choice):
            known = OPTIONS.setdefault(name, declared.options)
            strange = [option for option in (*declared.options, declared.default) if option not in known]
            if strange:
                raise ValueError(f"{name} has the options {', '.join(known)}, not {strange[0]!r}: choose another name")


def expected(name: str, declared: Hyperparameter, value: Any) -> str | None:
    """What a given value should have been, or None if it means something; it may lie outside the searched range."""
    if isinstance(declared, Choice):
        return None if value in OPTIONS[name] else f"one of {', '.join(OPTIONS[name])}"
    number = _is_number(value)
    if isinstance(declared, Int):
        return None if number and float(value) >= 1 and float(value) == int(value) else "an integer of at least 1"
    if number and (float(value) > 0 if declared.above else float(value) >= 0) and float(value) < declared.below:
        return None
    kind = "a positive number" if declared.above else "a number that is not negative"
    return f"{kind}, below {declared.below:g}" if declared.below < math.inf else f"{kind}, and finite"


def _is_number(value: Any) -> bool:
    """Whether a value is a finite real number, of Python or numpy, but no truth value."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:  # an integer of Python may be any
        return False


def defaults(space: SearchSpace) -> dict[str, Value]:
    """The default of every hyperparameter in a space."""
    return {name: declared.default for name, declared in space.items()}


def encode(name: str, value: Value) -> float:
    """A value as the number that a tensor holds."""
    return float(OPTIONS[name].index(value)) if isinstance(value, str) else float(value)


def stack(settings: list[dict[str, Value]], device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Settings of K members as tensors ``[K, 1]``."""
    return {
        name: torch.tensor([[encode(name, s[name])] for s in settings], dtype=torch.float64).to(device, dtype)
        for name in settings[0]
    }
