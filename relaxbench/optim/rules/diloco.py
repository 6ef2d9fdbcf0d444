"""DiLoCo with one worker: AdamW in an inner loop, Nesterov's momentum on its displacement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from relaxbench.optim.hyper import INNER_STEPS, OUTER_LR, OUTER_MOMENTUM, RELAXED_INNER_STEPS, SCHEDULE, Hyper
from relaxbench.optim.outer_step import outer_step
from relaxbench.optim.parts import HALF_STEPS, NO_OUTER_MOMENTUM, Part
from relaxbench.optim.published import Published
from relaxbench.optim.rule import Query, State, nesterov, place
from relaxbench.optim.rules.adamw import ADAM_LR, BETAS, DECAY, AdamW, adam
from relaxbench.space import Float, Space, Value

OUTER: Mapping[str, Value] = {"outer_lr": 0.7, "outer_momentum": 0.9}


class DiLoCo(AdamW):
    """y ← y − η (wd y + m̂/(√v̂ + ε)), AdamW on ∇f(y), L times; then x ← x − η_x N(u, x − y), y = x.

    The displacement x − y is a pseudo-gradient. m and v of AdamW are kept across outer steps. One worker, so nothing is
    distributed; with SGD inside and without momentum outside it is Lookahead, and its outer step is that of Entropy-SGD
    and Parle. The schedule anneals η, not η_x.

    Memory: 6 copies: x, y, u, m, v, the gradient.
    """

    name, title = "diloco", "DiLoCo"
    source = "Douillard et al., arXiv 2311.08105, algorithm 1, with one worker"
    wide: ClassVar[Space] = {
        "outer_lr": Float(OUTER_LR.low, OUTER_LR.high, 0.7, log=True),
        "adam_lr": ADAM_LR,
        "inner_steps": INNER_STEPS,
        "outer_momentum": replace(OUTER_MOMENTUM, default=0.9),
        "beta1": AdamW.wide["beta1"],
        "beta2": AdamW.wide["beta2"],
        "decoupled_decay": DECAY,
        "schedule": SCHEDULE,
    }
    space: ClassVar[Space] = {
        "adam_lr": ADAM_LR,
        "inner_steps": RELAXED_INNER_STEPS,
        "decoupled_decay": DECAY,
        "schedule": SCHEDULE,
    }
    default_fixed: ClassVar[Mapping[str, Value]] = {**OUTER, **BETAS}
    publications = (
        Published(
            "transformer",
            {**OUTER, **BETAS, "adam_lr": 4e-4, "inner_steps": 500, "decoupled_decay": 0.1, "schedule": "warmup"},
            "arXiv 2311.08105, section 3: H = 500, lr 4e-4, weight decay 0.1, outer Nesterov: lr 0.7, momentum 0.9",
            {
                "beta1": "as in the defaults of torch.optim.AdamW",
                "beta2": "as in the defaults of torch.optim.AdamW",
                "schedule": "a linear rise and a cosine, as in `warmup`, but the rise has another length",
            },
        ),
    )
    parts = (
        NO_OUTER_MOMENTUM,
        Part("outer-loop", "the outer loop", "its inner steps alone, which is AdamW", rule="adamw"),
        HALF_STEPS,
    )
    reasons: ClassVar[Mapping[str, str]] = {
        "outer_lr": "the published 0.7",
        "adam_lr": "AdamW's range",
        "inner_steps": "those of the relaxation rules, its relatives; the published 500 is most of a short run",
        "outer_momentum": "the published 0.9",
        "beta1": "AdamW's 0.9",
        "beta2": "AdamW's 0.999",
        "decoupled_decay": "AdamW's range, around the published 0.1",
    }
    elementwise = True
    copies = 6

    def init(self, x: Tensor, seed: Tensor) -> State:
        return {**super().init(x, seed), "y": x.clone(), "u": x.new_zeros(x.shape)}

    def query(self, state: State, hyper: Hyper) -> Query:
        return Query(state["y"], state["t"])

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        y = state["y"]
        self._forget(state, hyper)
        y.sub_(hyper["adam_lr"] * (hyper["decoupled_decay"] * y + adam(state, grad, hyper)))
        state["t"] += 1
        due = place(state["t"], hyper["inner_steps"]) == 0
        outer_step(due, state, hyper, "x y u outer_lr outer_momentum", self._outer)
        return state

    def period(self, hyper: Hyper) -> Tensor:
        return hyper["inner_steps"].to(torch.int64)

    @staticmethod
    def _outer(state: State, hyper: Hyper) -> State:
        x, u = state["x"], state["u"].clone()
        x = x - hyper["outer_lr"] * nesterov(u, hyper["outer_momentum"], x - state["y"])
        return {"x": x, "y": x, "u": u}
