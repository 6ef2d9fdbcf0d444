"""Random search: independent random params from a space."""

from __future__ import annotations

import math

from relaxbench.space import Choice, Hyperparameter, Int, Space, Value
from relaxbench.util.seeds import derive


def sample(space: Space, seed: int) -> dict[str, Value]:
    """Draw independent random params. Each value depends on the seed and the hyperparameter's name alone."""
    return {name: _draw(declared, derive(seed, name) / 2**63) for name, declared in space.items()}


def _draw(declared: Hyperparameter, u: float) -> Value:
    """Map u in [0, 1) to a value: uniform on the scale that the range declares."""
    if isinstance(declared, Choice):
        return declared.options[int(u * len(declared.options))]
    if isinstance(declared, Int):
        count = (declared.high - declared.low) // declared.step + 1
        return declared.low + declared.step * int(u * count)
    if declared.log:
        return math.exp(math.log(declared.low) + u * (math.log(declared.high) - math.log(declared.low)))
    return declared.low + u * (declared.high - declared.low)
