"""Lookahead: fast weights take SGD steps, slow weights follow them."""

from __future__ import annotations

import torch
from torch import Tensor

from relaxbench.optim.hyper import ANNEAL, INNER_STEPS, LR, MOMENTUM, OUTER_LR, SCHEDULE, WEIGHT_DECAY, Hyper
from relaxbench.optim.rule import Query, Rule, State, counters, nesterov, outer_step


class Lookahead(Rule):
    """y ← y − η_y N(v, ∇f(y) + wd y), L times; then x ← x − η_x (x − y), y = x.

    A control method: it is Entropy-SGD at γ = ∞ (no coupling), a = 0 (no averaging), without noise or outer momentum.

    Memory: 4 copies: x, y, v, the gradient.
    """

    name, title = "lookahead", "Lookahead"
    source = "Zhang, Lucas, Hinton & Ba, arXiv 1907.08610, algorithm 1"
    space = {
        "outer_lr": OUTER_LR,
        "inner_lr": LR,
        "inner_steps": INNER_STEPS,
        "momentum": MOMENTUM,
        "weight_decay": WEIGHT_DECAY,
        "schedule": SCHEDULE,
        "anneal": ANNEAL,
    }
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
        outer_step(state["t"] % self.period(hyper) == 0, state, hyper, "x y outer_lr", self._outer)
        return state

    def period(self, hyper: Hyper) -> Tensor:
        return hyper["inner_steps"].to(torch.int64)

    @staticmethod
    def _outer(state: State, hyper: Hyper) -> State:
        x = state["x"] - hyper["outer_lr"] * (state["x"] - state["y"])
        return {"x": x, "y": x}
