"""AdamW: Adam with decoupled weight decay, the usual first choice among adaptive methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from relaxbench.optim.hyper import SCHEDULE, Hyper
from relaxbench.optim.published import Published
from relaxbench.optim.rule import Query, Rule, State, counters
from relaxbench.space import Float, Space, Value

EPSILON = 1e-8
ADAM_LR = Float(1e-4, 0.1, 1e-2, log=True)
DECAY = Float(1e-4, 1.0, 1e-2, log=True)
BETAS: dict[str, Value] = {"beta1": 0.9, "beta2": 0.999}
TABLE = "arXiv 1805.08095, table 1"


def adam(state: State, grad: Tensor, hyper: Hyper) -> Tensor:
    """Update m and v; return m̂/(√v̂ + ε)."""
    m, v, beta1, beta2 = state["m"], state["v"], hyper["beta1"], hyper["beta2"]
    m.mul_(beta1).add_((1 - beta1) * grad)
    v.mul_(beta2).add_((1 - beta2) * grad * grad)
    return m / (1 - state["forgotten1"]) / ((v / (1 - state["forgotten2"])).sqrt() + EPSILON)


class AdamW(Rule):
    """m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²;  x ← x − η wd x − η m̂/(√v̂ + ε); hats: bias corrected.

    The step size does not depend on the size of the gradients, and the weight decay is decoupled. Both differ from
    SGD's in meaning and range, so they have separate names: `adam_lr` and `decoupled_decay`.

    Memory: 4 copies: x, m, v, the gradient.
    """

    name, title = "adamw", "AdamW"
    source = "Loshchilov & Hutter, arXiv 1711.05101, algorithm 2; torch.optim.AdamW"
    wide: ClassVar[Space] = {
        "adam_lr": ADAM_LR,
        "beta1": Float(0.5, 0.99, 0.9, below=1.0),
        "beta2": Float(0.9, 0.9999, 0.999, below=1.0),
        "decoupled_decay": DECAY,
        "schedule": SCHEDULE,
    }
    space: ClassVar[Space] = {"adam_lr": ADAM_LR, "decoupled_decay": DECAY, "schedule": SCHEDULE}
    default_fixed: ClassVar[Mapping[str, Value]] = BETAS
    publications: ClassVar[tuple[Published, ...]] = (
        Published(
            "fully-connected",
            {**BETAS, "adam_lr": 1e-3, "decoupled_decay": 1e-2, "schedule": "constant"},
            "the defaults of torch.optim.AdamW",
        ),
        Published(
            "cifar-10",
            # The released code decays by the normalized 0.025 √(b/(B T)) per step, whatever the step size; our decay is
            # multiplied by the step size: 0.025 √(128/(50,000 · 1,500))/1e-3 = 0.033.
            {**BETAS, "adam_lr": 1e-3, "decoupled_decay": 0.033, "schedule": "cosine"},
            "arXiv 1711.05101 and the README of its code (LR 0.001, normalized weight decay 0.025, 1,500 epochs)",
        ),
        Published(
            "rosenbrock",
            {**BETAS, "adam_lr": 0.05, "decoupled_decay": 0.0, "schedule": "constant"},
            TABLE,
            {"adam_lr": "the paper gives no step size; of those tried, none meets the row (see reproduce)"},
        ),
        Published(
            "linear-net",
            {**BETAS, "adam_lr": 0.1, "decoupled_decay": 0.0, "schedule": "constant"},
            TABLE,
            {"adam_lr": "the paper gives no step size; with this one `reproduce curveball-toys` meets its row"},
        ),
    )
    reasons: ClassVar[Mapping[str, str]] = {
        "adam_lr": "as many decades as SGD's step size: a tenth of the published 1e-3 to the 0.1 of small problems",
        "beta1": "0.9 in every publication named here",
        "beta2": "0.999 in every publication named here",
        "decoupled_decay": "four decades, as for SGD's decay, around the published 0.01 and 0.033",
    }
    elementwise = True
    copies = 4
    rate = "adam_lr"
    ages = frozenset({"forgotten1", "forgotten2"})

    def init(self, x: Tensor, seed: Tensor) -> State:
        zero, one = x.new_zeros(x.shape), x.new_ones(x.shape[0], 1)
        moments = {"m": zero, "v": zero.clone(), "forgotten1": one, "forgotten2": one.clone()}
        return {"x": x.clone(), **moments, **counters(x, seed)}

    def retune(self, state: State, before: Hyper, after: Hyper) -> None:
        """Let βᵗ be that of the present β, as in PyTorch: it corrects m and v as if β had always been so."""
        for number in "12":
            old, new = (hyper[f"beta{number}"].clamp(min=1e-30) for hyper in (before, after))
            if not torch.equal(old, new):
                forgotten = state[f"forgotten{number}"]
                forgotten.copy_(torch.exp(forgotten.log() * new.log() / old.log()))

    def query(self, state: State, hyper: Hyper) -> Query:
        return Query(state["x"], state["t"])

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        x = state["x"]
        self._forget(state, hyper)
        x.sub_(hyper["adam_lr"] * (hyper["decoupled_decay"] * x + adam(state, grad, hyper)))
        state["t"] += 1
        return state

    @staticmethod
    def _forget(state: State, hyper: Hyper) -> None:
        """Update βᵗ, a product, because `pow` may round the last numbers of a tensor differently from the rest."""
        state["forgotten1"].mul_(hyper["beta1"])
        state["forgotten2"].mul_(hyper["beta2"])
