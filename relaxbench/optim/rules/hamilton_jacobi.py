"""Hamilton–Jacobi relaxation without viscosity: descent on the Moreau envelope, in its two published forms."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from relaxbench.optim.hyper import (
    AVERAGING,
    GAMMA_END,
    GAMMA_START,
    INNER_STEPS,
    LR,
    MOMENTUM,
    SCHEDULE,
    SCOPING,
    WEIGHT_DECAY,
    Hyper,
)
from relaxbench.optim.meanings import Meaning
from relaxbench.optim.rule import Query, Rule, State, counters, nesterov, outer_step, uniform_value
from relaxbench.optim.rules.entropy_sgd import RELAXED, EntropySGD


class HJ(EntropySGD):
    """Descent form: Entropy-SGD at temperature 0 with a = 0, so that x moves to the last inner iterate.

    L times: d = ∇f(y) + wd y + (y − x)/γ;  y ← y − η_y N(v, d).  Then x ← x − η_x N(v_x, x − y);  y = x.

    Memory: 6 copies, as for Entropy-SGD.
    """

    name, title = "hj", "Hamilton–Jacobi"
    source = "Chaudhari et al., arXiv 1704.04932, section 3 (non-viscous Hamilton–Jacobi)"
    space = RELAXED
    copies = 6

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        zero = torch.zeros_like(hyper["momentum"])
        return super().update(state, grad, loss, {**hyper, "averaging": zero, "temperature": zero})


class HJImplicit(Rule):
    """Implicit form: p solves p = ∇f(x − γ p) by an averaged fixed-point iteration, then x follows −p.

    p ← g(x) + wd x;  then L times, at x − γ p:  p ← b p + (1 − b)(g + wd (x − γ p));  then x ← x − η N(v, p).
    An outer step takes L + 1 gradients; b is `averaging`. The iteration contracts if and only if
    γ λ < (1 + b)/(1 − b) for all curvatures λ ≥ 0.

    Memory: 4 copies: x, p, v, the gradient.
    """

    name, title = "hj-implicit", "Hamilton–Jacobi (implicit)"
    source = "Chaudhari et al., arXiv 1704.04932 (the variant of its published Hamilton–Jacobi column)"
    space = {
        "lr": LR,
        "inner_steps": INNER_STEPS,
        "momentum": MOMENTUM,
        "averaging": AVERAGING,
        "gamma_start": replace(GAMMA_START, default=1.0),  # the shared range, but its default would not contract
        "gamma_end": replace(GAMMA_END, default=0.1),
        "scoping": SCOPING,
        "weight_decay": WEIGHT_DECAY,
        "schedule": SCHEDULE,
    }
    meanings = {
        "inner_steps": Meaning("Number L of fixed-point iterations per outer step"),
        "averaging": Meaning("Weight b of the past in the average p"),
        "gamma_start": Meaning("Scope γ at the start of training, the length of the implicit step", "parameter²/loss"),
    }
    copies = 4
    scope = "gamma"

    def init(self, x: Tensor, seed: Tensor) -> State:
        return {"x": x.clone(), "p": x.new_zeros(x.shape), "v": x.new_zeros(x.shape), **counters(x, seed)}

    def query(self, state: State, hyper: Hyper) -> Query:
        return Query(self._point(state, hyper), state["t"])

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        p, b = state["p"], hyper["averaging"]
        first = state["t"] % self.period(hyper) == 0
        d = (hyper["weight_decay"] * self._point(state, hyper)).add_(grad)
        if uniform_value(first) is False:
            p.mul_(b).add_(d.mul_(1 - b))
        else:
            torch.where(first, d, (b * p).add_((1 - b) * d), out=p)
        state["t"] += 1
        due = state["t"] % self.period(hyper) == 0
        outer_step(due, state, hyper, "x p v lr momentum", self._outer)
        return state

    def period(self, hyper: Hyper) -> Tensor:
        return hyper["inner_steps"].to(torch.int64) + 1

    def _point(self, state: State, hyper: Hyper) -> Tensor:
        first = state["t"] % self.period(hyper) == 0
        inside = state["x"] - hyper["gamma"] * state["p"]
        return inside if uniform_value(first) is False else torch.where(first, state["x"], inside)

    @staticmethod
    def _outer(state: State, hyper: Hyper) -> State:
        v = state["v"].clone()
        return {"x": state["x"] - hyper["lr"] * nesterov(v, hyper["momentum"], state["p"]), "v": v}
