"""Entropy-SGD: gradient descent on the local entropy, whose gradient an inner Langevin loop estimates."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from relaxbench.optim.hyper import (
    ANNEAL,
    AVERAGING,
    GAMMA_END,
    GAMMA_START,
    INNER_STEPS,
    LR,
    MOMENTUM,
    OUTER_LR,
    OUTER_MOMENTUM,
    SCHEDULE,
    SCOPING,
    TEMPERATURE,
    WEIGHT_DECAY,
    Hyper,
)
from relaxbench.optim.rule import Query, Rule, State, counters, nesterov, outer_step, standard_normal
from relaxbench.space import Space

RELAXED: Space = {
    "outer_lr": OUTER_LR,
    "inner_lr": LR,
    "inner_steps": INNER_STEPS,
    "momentum": MOMENTUM,
    "outer_momentum": OUTER_MOMENTUM,
    "gamma_start": GAMMA_START,
    "gamma_end": GAMMA_END,
    "scoping": SCOPING,
    "weight_decay": WEIGHT_DECAY,
    "schedule": SCHEDULE,
    "anneal": ANNEAL,
}


class EntropySGD(Rule):
    """Sample exp(−β f(y) − β |x − y|²/2γ) around x at temperature T = 1/β in an inner loop; move x towards its mean.

    L times, at y:

        d = ∇f(y) + wd y + (y − x)/γ
        y ← y − η_y N(v, d) + √(2 η_y T/(1 − m)) ξ
        z ← a z + (1 − a) y

    then

        x ← x − η_x N(v_x, x − z);  y = z = x

    The inner velocity v is kept across outer steps. T is the temperature of the chain if its steps are small,
    η_y (λ + 1/γ) ≪ (1 − m)² in a well of curvature λ: there momentum m would shrink the variance T/(λ + 1/γ) to its
    (1 − m)-fold, which the 1/(1 − m) under the root compensates. With longer steps the chain is hotter than T.

    Both options, with `outer_momentum` = 0, give the code that was released with the paper.

    Memory: 6 copies: x, y, z, v, v_x, the gradient.

    Args:
        restart_momentum: Set v to zero at the end of every outer step.
        coupling_outside_momentum: Update v ← m v + ∇f(y) alone and add coupling and weight decay after the momentum.
            The chain then has the scope γ/(1 − m): its variance is T/(λ + (1 − m)/γ).
    """

    name, title = "entropy-sgd", "Entropy-SGD"
    source = "Chaudhari et al., arXiv 1611.01838, algorithm 1; arXiv 1704.04932, equation (20)"
    space: ClassVar[Space] = {**RELAXED, "averaging": AVERAGING, "temperature": TEMPERATURE}
    copies = 6
    scope = "gamma"

    def __init__(self, restart_momentum: bool = False, coupling_outside_momentum: bool = False) -> None:
        self.restart_momentum = restart_momentum
        self.coupling_outside_momentum = coupling_outside_momentum

    def init(self, x: Tensor, seed: Tensor) -> State:
        zero = x.new_zeros(x.shape)
        start = {"x": x.clone(), "y": x.clone(), "z": x.clone(), "v": zero, "v_x": zero.clone()}
        return {**start, **counters(x, seed)}

    def query(self, state: State, hyper: Hyper) -> Query:
        return Query(state["y"], state["t"])

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        self._inner(state, grad, hyper)
        state["t"] += 1
        due = state["t"] % self.period(hyper) == 0
        reads = "x y z v_x outer_lr outer_momentum" + " v" * self.restart_momentum
        outer_step(due, state, hyper, reads, self._outer)
        return state

    def period(self, hyper: Hyper) -> Tensor:
        return hyper["inner_steps"].to(torch.int64)

    def _inner(self, state: State, grad: Tensor, hyper: Hyper) -> None:
        x, y, z = state["x"], state["y"], state["z"]
        rate, m, a = hyper["inner_lr"], hyper["momentum"], hyper["averaging"]
        pull = (y - x).div_(hyper["gamma"]).add_(hyper["weight_decay"] * y)
        if self.coupling_outside_momentum:
            d = nesterov(state["v"], m, grad).add_(pull)
        else:
            d = nesterov(state["v"], m, pull.add_(grad))
        y.sub_(d.mul_(rate))
        temperature = hyper["temperature"]
        if temperature.device.type != "cpu" or bool((temperature > 0).any()):
            noise = standard_normal(state, y.shape[1], y.dtype)
            y.add_(noise.mul_((2 * rate * temperature / (1 - m)).sqrt()))
        z.mul_(a).add_((1 - a) * y)

    def _outer(self, state: State, hyper: Hyper) -> State:
        v = state["v_x"].clone()
        x = state["x"] - hyper["outer_lr"] * nesterov(v, hyper["outer_momentum"], state["x"] - state["z"])
        restarted = {"v": torch.zeros_like(state["v"])} if self.restart_momentum else {}
        return {"x": x, "y": x, "z": x, "v_x": v, **restarted}
