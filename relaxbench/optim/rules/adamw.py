"""AdamW: Adam with decoupled weight decay, the usual first choice among adaptive methods."""

from __future__ import annotations

from torch import Tensor

from relaxbench.optim.hyper import SCHEDULE, Hyper
from relaxbench.optim.meanings import Meaning
from relaxbench.optim.rule import Query, Rule, State, counters
from relaxbench.space import Float

EPSILON = 1e-8


class AdamW(Rule):
    """m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²;  x ← x − η wd x − η m̂/(√v̂ + ε); hats: bias corrected.

    The step size does not depend on the size of the gradients, and the weight decay is decoupled. Both differ from
    SGD's in meaning and range, so they have separate names: `adam_lr` and `decoupled_decay`.

    Memory: 4 copies: x, m, v, the gradient.
    """

    name, title = "adamw", "AdamW"
    source = "Loshchilov & Hutter, arXiv 1711.05101, algorithm 2; torch.optim.AdamW"
    space = {
        "adam_lr": Float(1e-4, 0.1, 1e-2, log=True),
        "beta1": Float(0.5, 0.99, 0.9, below=1.0),
        "beta2": Float(0.9, 0.9999, 0.999, below=1.0),
        "decoupled_decay": Float(1e-4, 1.0, 1e-2, log=True),
        "schedule": SCHEDULE,
    }
    meanings = {
        "adam_lr": Meaning("Step size η, about the size of a step of each parameter", "parameter"),
        "beta1": Meaning("Weight β₁ of the past in the mean of the gradients"),
        "beta2": Meaning("Weight β₂ of the past in the mean of the squared gradients"),
        "decoupled_decay": Meaning("Weight decay wd: the share of x that a step of size 1 takes away", "1/parameter"),
    }
    copies = 4
    rate = "adam_lr"

    def init(self, x: Tensor, seed: Tensor) -> State:
        zero, one = x.new_zeros(x.shape), x.new_ones(x.shape[0], 1)
        moments = {"m": zero, "v": zero.clone(), "forgotten1": one, "forgotten2": one.clone()}
        return {"x": x.clone(), **moments, **counters(x, seed)}

    def query(self, state: State, hyper: Hyper) -> Query:
        return Query(state["x"], state["t"])

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        x, m, v = state["x"], state["m"], state["v"]
        rate, beta1, beta2 = hyper["adam_lr"], hyper["beta1"], hyper["beta2"]
        # βᵗ as a product, because `pow` may round the last numbers of a tensor differently from the rest.
        state["forgotten1"].mul_(beta1)
        state["forgotten2"].mul_(beta2)
        m.mul_(beta1).add_((1 - beta1) * grad)
        v.mul_(beta2).add_((1 - beta2) * grad * grad)
        step = m / (1 - state["forgotten1"]) / ((v / (1 - state["forgotten2"])).sqrt() + EPSILON)
        x.sub_(rate * (hyper["decoupled_decay"] * x + step))
        state["t"] += 1
        return state
