"""Optuna's distributions, made from a space: the only place where the two meet."""

from __future__ import annotations

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from relaxbench.space import Choice, Hyperparameter, Int, Space


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Convert a space to Optuna's distributions, by name."""
    return {name: _distribution(declared) for name, declared in space.items()}


def _distribution(declared: Hyperparameter) -> BaseDistribution:
    if isinstance(declared, Choice):
        return CategoricalDistribution(declared.options)
    if isinstance(declared, Int):
        return IntDistribution(declared.low, declared.high, step=declared.step)
    return FloatDistribution(declared.low, declared.high, log=declared.log)
