"""Rules driven by hand: a quadratic, mini-batches that shift its minimum, and a loop around query and update."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from relaxbench import random
from relaxbench.optim.hyper import Choice, Float, Int, stack
from relaxbench.optim.rule import Rule, State

F64 = torch.float64
CPU = torch.device("cpu")

Gradient = Callable[[Tensor, Tensor], Tensor]
"""(points [K, P], batch numbers [K, 1]) → gradients [K, P]."""


class Quadratic:
    """f(x) = ½ xᵀA x + c_iᵀ x, where i is the number of the mini-batch and A has the given eigenvalues."""

    def __init__(self, eigenvalues: Sequence[float] = (0.2, 1.0, 3.0), noise: float = 0.0, rotate: bool = True) -> None:
        self.size = len(eigenvalues)
        generator = np.random.default_rng(7)
        basis = np.linalg.qr(generator.normal(size=(self.size, self.size)))[0] if rotate else np.eye(self.size)
        self.a = basis @ np.diag(eigenvalues) @ basis.T
        self.shifts = noise * generator.normal(size=(2000, self.size))

    def plain(self, x: np.ndarray, batch: int) -> np.ndarray:
        return np.asarray(self.a @ x + self.shifts[batch])

    def __call__(self, points: Tensor, batch: Tensor) -> Tensor:
        return points @ torch.tensor(self.a.T, dtype=points.dtype) + torch.tensor(self.shifts).to(points)[batch[:, 0]]


def run(
    rule: Rule,
    x: Tensor,
    settings: Sequence[dict[str, Any]],
    steps: int,
    gradient: Gradient,
    seeds: Sequence[int] | None = None,
    scheduled: bool = True,
) -> State:
    """The state after some gradients of every member; `scheduled` hyperparameters move over exactly these."""
    hyper = stack(list(settings), CPU, x.dtype)
    period = rule.period(hyper)
    state = rule.init(x, torch.tensor(list(seeds or range(len(x))))[:, None])
    for _ in range(steps):
        progress = (state["t"] // period).to(x.dtype) / (steps // period).to(x.dtype)
        now = rule.at(hyper, progress) if scheduled else hyper
        query = rule.query(state, now)
        state = rule.update(state, gradient(query.points, query.batch), torch.zeros(len(x), 1, dtype=x.dtype), now)
    return state


def noise_of(seed: int, size: int) -> Callable[[int], np.ndarray]:
    """The standard normal numbers that a member with this seed draws at its t-th gradient."""

    def noise(t: int) -> np.ndarray:
        words = random.key(torch.tensor([seed]), random.NOISE, torch.tensor([t]))
        return random.normal(words, size, F64).numpy()

    return noise


def settings_of(rule: type[Rule], **replaced: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Any settings that a rule declares."""

    def values(declared: object) -> st.SearchStrategy[Any]:
        if isinstance(declared, Choice):
            return st.sampled_from(declared.options)
        if isinstance(declared, Int):
            return st.integers(0, (declared.high - declared.low) // declared.step).map(
                lambda i: declared.low + i * declared.step
            )
        assert isinstance(declared, Float)
        if declared.log:
            low, high = math.log(declared.low), math.log(declared.high)
            return st.floats(low, high).map(math.exp)
        return st.floats(declared.low, declared.high)

    parts = {name: values(declared) for name, declared in rule.space.items()}
    return st.fixed_dictionaries({**parts, **{name: st.just(value) for name, value in replaced.items()}})
