"""SAM, sharpness-aware minimization: descent with the gradient at a nearby point where the loss is higher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from relaxbench.optim.hyper import LR, MOMENTUM, SCHEDULE, WEIGHT_DECAY, Hyper
from relaxbench.optim.meanings import Meaning
from relaxbench.optim.outer_step import outer_step
from relaxbench.optim.parts import NO_MOMENTUM, Part
from relaxbench.optim.published import Published
from relaxbench.optim.rule import Query, Rule, State, counters, nesterov, row_sums
from relaxbench.space import Float, Space, Value

TINY = 1e-12
"""Added to the norm of a gradient, which may be zero."""


class SAM(Rule):
    """e = r g/|g| with g = ∇f(x);  x ← x − η N(v, ∇f(x + e) + wd x), with two gradients of one mini-batch.

    Memory: 4 copies: x, e, v, the gradient.
    """

    name, title = "sam", "SAM"
    source = "Foret, Kleiner, Mobahi & Neyshabur, arXiv 2010.01412, algorithm 1"
    wide: ClassVar[Space] = {
        "lr": LR,
        "momentum": MOMENTUM,
        "radius": Float(1e-3, 1.0, 0.05, log=True),
        "weight_decay": WEIGHT_DECAY,
        "schedule": SCHEDULE,
    }
    space: ClassVar[Space] = {
        "lr": LR,
        "radius": Float(0.01, 0.5, 0.05, log=True),  # ρ: the ends of the paper's grid
        "weight_decay": WEIGHT_DECAY,
        "schedule": SCHEDULE,
    }
    default_fixed: ClassVar[Mapping[str, Value]] = {"momentum": 0.9}
    publications = (
        Published(
            "cifar-10",
            {"lr": 0.1, "momentum": 0.9, "radius": 0.05, "weight_decay": 5e-4, "schedule": "cosine"},
            "arXiv 2010.01412, section 3.1 (ρ = 0.05), and its code (lr 0.1, weight decay 5e-4, Nesterov, cosine)",
        ),
    )
    parts: ClassVar[tuple[Part, ...]] = (
        Part("ascent", "the step uphill", "the gradient at x itself, which is SGD", rule="sgd"),
        NO_MOMENTUM,
    )
    reasons: ClassVar[Mapping[str, str]] = {
        "radius": "the paper's grid for ρ, 0.01 to 0.5",
    }
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "radius": Meaning("Distance r of the nearby point", "parameter"),
    }
    copies = 4

    def init(self, x: Tensor, seed: Tensor) -> State:
        return {"x": x.clone(), "e": x.new_zeros(x.shape), "v": x.new_zeros(x.shape), **counters(x, seed)}

    def query(self, state: State, hyper: Hyper) -> Query:
        return Query(state["x"] + state["e"], state["t"] // 2)

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        x = state["x"]
        away = state["t"] % 2 == 0
        ascent = torch.where(away, self._ascent(x, grad, hyper), torch.zeros_like(x))
        state["t"] += 1
        state["e"].copy_(ascent)
        outer_step(~away, {**state, "grad": grad}, hyper, "x v grad lr momentum weight_decay", self._outer)
        return state

    def period(self, hyper: Hyper) -> Tensor:
        return torch.full_like(hyper["lr"][..., :1], 2, dtype=torch.int64)

    def first_batch(self, query: int) -> int:
        return query // 2

    def _ascent(self, x: Tensor, grad: Tensor, hyper: Hyper) -> Tensor:
        """Return the way to the nearby point."""
        return hyper["radius"] * grad / (row_sums(grad * grad).sqrt() + TINY)

    @staticmethod
    def _outer(state: State, hyper: Hyper) -> State:
        x, v = state["x"], state["v"].clone()
        d = state["grad"] + hyper["weight_decay"] * x
        return {"x": x - hyper["lr"] * nesterov(v, hyper["momentum"], d), "v": v}
