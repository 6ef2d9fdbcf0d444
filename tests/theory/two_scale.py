"""Homogenization: a fast variable that is pulled to a slow one makes the slow one descend the local entropy.

dx = −(1/γ)(x − y) ds;  dy = −(1/ε)[∇f(y) + (y − x)/γ] ds + √(2/(βε)) dW;  as ε → 0, dX = −∇f_γ(X) ds
(Chaudhari et al., arXiv 1704.04932, section 4). Entropy-SGD is this with finitely many steps of y for one of x.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from relaxbench.optim.hyper import Hyper
from relaxbench.optim.rule import Query, Rule, State, counters, standard_normal
from relaxbench.space import Float, Space


class TwoScale(Rule):
    """The pair (x, y) by the Euler–Maruyama scheme, both in one step; `time_step` must be small against ε γ."""

    name, title = "two-scale", "the two-scale diffusion"
    source = "Chaudhari et al., arXiv 1704.04932, section 4"
    space: ClassVar[Space] = {
        "time_step": Float(1e-6, 1.0, 1e-4, log=True, above=True),
        "gamma": Float(1e-3, 1e3, 1.0, log=True, above=True),
        "epsilon": Float(1e-6, 1.0, 1e-2, log=True, above=True),
        "temperature": Float(1e-7, 1e3, 1.0, log=True),
    }
    copies = 3
    rate = "time_step"

    def init(self, x: Tensor, seed: Tensor) -> State:
        return {"x": x.clone(), "y": x.clone(), **counters(x, seed)}

    def query(self, state: State, hyper: Hyper) -> Query:
        return Query(state["y"], state["t"])

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        x, y, step = state["x"], state["y"], hyper["time_step"]
        pull = (y - x) / hyper["gamma"]
        noise = standard_normal(state, x.shape[1], x.dtype)
        x.add_(step * pull)
        fast = step / hyper["epsilon"]
        y.sub_(fast * (grad + pull)).add_((2 * fast * hyper["temperature"]).sqrt() * noise)
        state["t"] += 1
        return state
