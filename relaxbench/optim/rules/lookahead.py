"""Lookahead: fast weights take SGD steps, slow weights follow them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from relaxbench.optim.hyper import ANNEAL, INNER_STEPS, LR, MOMENTUM, OUTER_LR, SCHEDULE, WEIGHT_DECAY, Hyper
from relaxbench.optim.outer_step import outer_step
from relaxbench.optim.parts import HALF_STEPS, NO_INNER_MOMENTUM, Part
from relaxbench.optim.published import NEAREST_STEP, Published
from relaxbench.optim.rule import Query, Rule, State, counters, nesterov, place
from relaxbench.space import Float, Int, Space, Value


class Lookahead(Rule):
    """y ← y − η_y N(v, ∇f(y) + wd y), L times; then x ← x − η_x (x − y), y = x.

    A control method: it is Entropy-SGD at γ = ∞ (no coupling), a = 0 (no averaging), without noise or outer momentum.

    Memory: 4 copies: x, y, v, the gradient.
    """

    name, title = "lookahead", "Lookahead"
    source = "Zhang, Lucas, Hinton & Ba, arXiv 1907.08610, algorithm 1"
    wide: ClassVar[Space] = {
        "outer_lr": OUTER_LR,
        "inner_lr": LR,
        "inner_steps": INNER_STEPS,
        "momentum": MOMENTUM,
        "weight_decay": WEIGHT_DECAY,
        "schedule": SCHEDULE,
        "anneal": ANNEAL,
    }
    space: ClassVar[Space] = {
        "outer_lr": Float(0.5, 0.8, 0.8, log=True),  # α: 0.5 in the paper's algorithm and on ImageNet, 0.8 in its code
        "inner_lr": LR,
        "inner_steps": Int(5, 10, 5, step=5),  # k: 5 and 10 are those of the paper
        "weight_decay": WEIGHT_DECAY,
        "schedule": SCHEDULE,
    }
    default_fixed: ClassVar[Mapping[str, Value]] = {"momentum": 0.9, "anneal": "inner"}
    publications = (
        Published(
            "cifar-10",
            {
                "outer_lr": 0.8,
                "inner_lr": 0.1,
                "inner_steps": 5,
                "momentum": 0.9,
                "weight_decay": 1e-3,
                "schedule": "step",
                "anneal": "inner",
            },
            "arXiv 1907.08610, section 5.1, and its code (la_steps=5, la_alpha=0.8)",
            {
                "inner_lr": "the middle of the paper's grid 0.03, 0.05, 0.1, 0.2, 0.3",
                "weight_decay": "the middle of the paper's grid 3e-4, 1e-3, 3e-3",
                "schedule": NEAREST_STEP,
            },
        ),
    )
    parts = (
        Part("slow-weights", "slow weights", "its fast weights alone, which is SGD", rule="sgd"),
        NO_INNER_MOMENTUM,
        HALF_STEPS,
    )
    reasons: ClassVar[Mapping[str, str]] = {
        "outer_lr": "between the two published values of α, 0.5 and 0.8",
        "inner_steps": "the two published values of k, 5 and 10",
        "anneal": "the paper lowers the step size of the optimizer inside, not α",
    }
    elementwise = True
    copies = 4

    def init(self, x: Tensor, seed: Tensor) -> State:
        return {"x": x.clone(), "y": x.clone(), "v": x.new_zeros(x.shape), **counters(x, seed)}

    def query(self, state: State, hyper: Hyper) -> Query:
        return Query(state["y"], state["t"])

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        y = state["y"]
        d = (hyper["weight_decay"] * y).add_(grad)
        y.sub_(nesterov(state["v"], hyper["momentum"], d).mul_(hyper["inner_lr"]))
        state["t"] += 1
        outer_step(place(state["t"], hyper["inner_steps"]) == 0, state, hyper, "x y outer_lr", self._outer)
        return state

    def period(self, hyper: Hyper) -> Tensor:
        return hyper["inner_steps"].to(torch.int64)

    @staticmethod
    def _outer(state: State, hyper: Hyper) -> State:
        x = state["x"] - hyper["outer_lr"] * (state["x"] - state["y"])
        return {"x": x, "y": x}
