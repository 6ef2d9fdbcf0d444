"""Heat-equation smoothing: descent on the loss convolved with a Gaussian."""

from __future__ import annotations

import torch
from torch import Tensor

from relaxbench.optim.hyper import INNER_STEPS, LR, MOMENTUM, SCHEDULE, SCOPING, WEIGHT_DECAY, Hyper
from relaxbench.optim.meanings import Meaning
from relaxbench.optim.rule import Query, Rule, State, counters, nesterov, outer_step, standard_normal
from relaxbench.space import Float


class Heat(Rule):
    """x ← x − η N(v, mean over i = 1 … L of ∇f(x + σ ξ_i) + wd x), in antithetic pairs ±ξ, each on a fresh batch.

    If L is odd, the last ξ has no partner: the mean is still unbiased and has slightly more variance.

    σ² = γ/β is the variance of the Gaussian. Only the ratio matters, so σ is the only parameter; its schedule acts on
    σ².

    Memory: 4 copies: x, the sum of gradients, v, the gradient.
    """

    name, title = "heat", "Heat equation"
    source = "Chaudhari et al., arXiv 1704.04932, section 3.3 (the heat equation column)"
    space = {
        "lr": LR,
        "inner_steps": INNER_STEPS,
        "momentum": MOMENTUM,
        "sigma_start": Float(1e-3, 0.3, 0.05, log=True, above=True),
        "sigma_end": Float(1e-4, 0.1, 1e-3, log=True, above=True),
        "scoping": SCOPING,
        "weight_decay": WEIGHT_DECAY,
        "schedule": SCHEDULE,
    }
    meanings = {
        "inner_steps": Meaning("Number L of gradients per step of x"),
        "sigma_start": Meaning("Standard deviation σ of the Gaussian at the start of training", "parameter"),
        "sigma_end": Meaning("Standard deviation σ at the end of training", "parameter"),
    }
    copies = 4
    scope = "sigma"

    def init(self, x: Tensor, seed: Tensor) -> State:
        return {"x": x.clone(), "sum": x.new_zeros(x.shape), "v": x.new_zeros(x.shape), **counters(x, seed)}

    def query(self, state: State, hyper: Hyper) -> Query:
        x, t = state["x"], state["t"]
        pair = t - t % self.period(hyper) % 2  # both halves of a pair draw the noise of the first
        sign = 1 - 2 * (t - pair).to(x.dtype)
        noise = standard_normal(state, x.shape[1], x.dtype, step=pair)
        return Query(noise.mul_(sign * hyper["sigma"]).add_(x), t)

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        state["sum"].add_(grad)
        state["t"] += 1
        due = state["t"] % self.period(hyper) == 0
        outer_step(due, state, hyper, "x sum v lr momentum weight_decay inner_steps", self._outer)
        return state

    def period(self, hyper: Hyper) -> Tensor:
        return hyper["inner_steps"].to(torch.int64)

    @staticmethod
    def _outer(state: State, hyper: Hyper) -> State:
        x, v = state["x"], state["v"].clone()
        d = state["sum"] / hyper["inner_steps"] + hyper["weight_decay"] * x
        return {"x": x - hyper["lr"] * nesterov(v, hyper["momentum"], d), "v": v, "sum": torch.zeros_like(x)}
