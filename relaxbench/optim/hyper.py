"""Shared hyperparameters, and hyperparameters as tensors.

A hyperparameter that several rules have is declared here once, so that every method is tuned over the same range. A
rule lists the ones it uses next to its mathematics: all of them in `wide`, and those that a study searches by default
in `space`. The types of the ranges are in `relaxbench.space`.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from relaxbench.space import Choice, Float, Hyperparameter, Int, Space, Value

Hyper = Mapping[str, Tensor]
"""Values of a population: one tensor ``[K, 1]`` (or ``[K, P]``) per name; a choice is the index of its option."""

SCHEDULES = ("constant", "step", "cosine", "warmup")
SCOPINGS = ("geometric", "linear", "cosine", "constant", "mean")
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
WARMUP = Float(0.0, 0.5, 0.05, below=1.0)

# Ranges of default spaces that two rules share; docs/spaces.md argues all of them.
MEAN_LR = Float(3e-3, 3.0, 0.1, log=True)  # on a mean of L gradients: as many decades as LR, up to 3 instead of 1
RELAXED_GAMMA_START = Float(10.0, 1e4, 1e3, log=True, above=True)
RELAXED_INNER_STEPS = Int(10, 20, 20, step=10)

OPTIONS: dict[str, tuple[str, ...]] = {"schedule": SCHEDULES, "scoping": SCOPINGS, "anneal": ANNEALED}
"""All options of a choice, searched by default or not, by its name. A tensor holds an option's index in this list."""


def declare(space: Space) -> None:
    """Register the choices of a custom rule in `OPTIONS`. A tensor holds an option's index in `Choice.options`.

    Raises:
        ValueError: if the name is already registered with other options.
    """
    for name, declared in space.items():
        if isinstance(declared, Choice):
            known = OPTIONS.setdefault(name, declared.options)
            extra = [option for option in (*declared.options, declared.default) if option not in known]
            if extra:
                raise ValueError(f"{name} has the options {', '.join(known)}, not {extra[0]!r}: choose another name")


def expected(name: str, declared: Hyperparameter, value: object) -> str | None:
    """Describe the values that a hyperparameter takes, or return None if the given value is one of them.

    A value outside the searched range is one of them too.
    """
    if isinstance(declared, Choice):
        return None if value in OPTIONS[name] else f"one of {', '.join(OPTIONS[name])}"
    number = _number(value)
    if isinstance(declared, Int):
        return None if number is not None and number >= 1 and number.is_integer() else "an integer of at least 1"
    if number is not None and (number > 0 if declared.above else number >= 0) and number < declared.below:
        return None
    kind = "a positive number" if declared.above else "a number that is not negative"
    return f"{kind}, below {declared.below:g}" if declared.below < math.inf else f"{kind}, and finite"


def _number(value: object) -> float | None:
    """Return a finite real number of Python or numpy as a float; None for anything else, a bool too."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer of Python may be any
        return None
    return number if math.isfinite(number) else None


def defaults(space: Space) -> dict[str, Value]:
    """Return the default of every hyperparameter of a space."""
    return {name: declared.default for name, declared in space.items()}


def encode(name: str, value: Value) -> float:
    """Convert a value to the number that a tensor holds.

    Raises:
        ValueError: if the value is no option of the choice.
    """
    return float(OPTIONS[name].index(value)) if isinstance(value, str) else float(value)


def stack(params: Sequence[Mapping[str, Value]], device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Stack the params of K members into one tensor ``[K, 1]`` per name."""
    return {
        name: torch.tensor([[encode(name, member[name])] for member in params], dtype=torch.float64).to(device, dtype)
        for name in params[0]
    }
