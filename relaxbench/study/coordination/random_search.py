"""From searched ranges to values: independent random ones. Optuna's distributions stand for the ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from relaxbench.store.facts import SpaceFacts, Value
from relaxbench.util.seeds import derive

Space = Mapping[str, BaseDistribution]


def sample(space: Space, seed: int) -> dict[str, Value]:
    """Independent random values, a function of the seed and the hyperparameter's name alone."""
    return {name: _draw(searched, derive(seed, name) / 2**63) for name, searched in space.items()}


def described(space: SpaceFacts) -> dict[str, BaseDistribution]:
    """A space as the manifest describes it (see `describe`)."""
    return {name: _distribution(**description) for name, description in space.items()}


def _distribution(kind: str, **given: Any) -> BaseDistribution:
    match kind:
        case "categorical":
            return CategoricalDistribution(**given)
        case "int":
            return IntDistribution(**given)
        case _:
            return FloatDistribution(**given)


def _draw(searched: BaseDistribution, u: float) -> Value:
    if isinstance(searched, CategoricalDistribution):
        return searched.choices[int(u * len(searched.choices))]  # type: ignore[return-value]
    if isinstance(searched, IntDistribution):
        count = (searched.high - searched.low) // searched.step + 1
        return searched.low + searched.step * int(u * count)
    assert isinstance(searched, FloatDistribution)
    if searched.log:
        return math.exp(math.log(searched.low) + u * (math.log(searched.high) - math.log(searched.low)))
    return searched.low + u * (searched.high - searched.low)
