"""The arguments of `relaxbench.trial` in a run of a script by itself: a mistake is one line."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from relaxbench.errors import kind_of
from relaxbench.loop.job import SEEDS, Job


def job_asked(method: Any, params: Any, budget: Any, seed: Any) -> Job:
    """Return the job of such arguments.

    Raises:
        TypeError: if one is of another kind.
        ValueError: if it is out of range.
    """
    if not isinstance(method, str):
        raise TypeError(_wrong("method", 'the label of a method, such as "adam"', method))
    if not (params is None or (isinstance(params, Mapping) and all(isinstance(name, str) for name in params))):
        raise TypeError(_wrong("params", 'values by name, such as {"lr": 0.1}', params))
    seeds = "a whole number from 0 to 2³² − 1"
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise TypeError(_wrong("seed", seeds, seed))
    if not 0 <= int(seed) < SEEDS:
        raise ValueError(_wrong("seed", seeds, int(seed)))
    return Job(method, dict(params or {}), int(seed), budget_of(budget, "relaxbench.trial(budget=…)"))


def budget_of(budget: Any, where: str) -> float:
    """Return a budget, which is a positive number.

    Args:
        budget: as given.
        where: what gives it, for the message.

    Raises:
        TypeError: if it is no number.
        ValueError: if it is not positive, or not finite.
    """
    message = f"{where}: expected a positive number of gradients, such as 300, got {kind_of(budget)}"
    if isinstance(budget, bool) or not isinstance(budget, Real):
        raise TypeError(message)
    if not 0 < float(budget) < math.inf:
        raise ValueError(message)
    return int(budget) if isinstance(budget, Integral) else float(budget)


def study_path(study: Any) -> Path:
    """Return the path of a study file.

    Raises:
        TypeError: if it is no path.
    """
    if not isinstance(study, str | os.PathLike):
        raise TypeError(_wrong("study", 'the path of a study file, such as "study.toml"', study))
    return Path(study)


def _wrong(name: str, wanted: str, value: object) -> str:
    return f"relaxbench.trial({name}=…): expected {wanted}, got {kind_of(value)}"
