"""From declared hyperparameters to values: independent random ones, and Optuna's distributions."""

from __future__ import annotations

import math
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from relaxbench.optim.hyper import Choice, Float, Hyperparameter, Int, SearchSpace, Value
from relaxbench.seeds import derive


def sample(space: SearchSpace, seed: int) -> dict[str, Value]:
    """Independent random values, a function of the seed and the hyperparameter's name alone."""
    return {name: _draw(declared, derive(seed, name) / 2**63) for name, declared in space.items()}


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The same space for Optuna."""
    return {name: _distribution(declared) for name, declared in space.items()}


def describe(space: SearchSpace) -> dict[str, dict[str, Any]]:
    """The same space for the manifest and the report."""
    return {name: _description(declared) for name, declared in space.items()}


def _draw(declared: Hyperparameter, u: float) -> Value:
    if isinstance(declared, Choice):
        return declared.options[int(u * len(declared.options))]
    if isinstance(declared, Int):
        count = (declared.high - declared.low) // declared.step + 1
        return declared.low + declared.step * int(u * count)
    if declared.log:
        return math.exp(math.log(declared.low) + u * (math.log(declared.high) - math.log(declared.low)))
    return declared.low + u * (declared.high - declared.low)


def _distribution(declared: Hyperparameter) -> BaseDistribution:
    if isinstance(declared, Choice):
        return CategoricalDistribution(declared.options)
    if isinstance(declared, Int):
        return IntDistribution(declared.low, declared.high, step=declared.step)
    return FloatDistribution(declared.low, declared.high, log=declared.log)


def _description(declared: Hyperparameter) -> dict[str, Any]:
    if isinstance(declared, Choice):
        return {"kind": "categorical", "choices": list(declared.options)}
    if isinstance(declared, Int):
        return {"kind": "int", "low": declared.low, "high": declared.high, "step": declared.step, "log": False}
    assert isinstance(declared, Float)
    return {"kind": "float", "low": declared.low, "high": declared.high, "log": declared.log}
