"""GPA, generalized primal averaging: AdamW whose gradients are taken between its point and an average of its points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from relaxbench.optim.hyper import SCHEDULE, Hyper
from relaxbench.optim.meanings import Meaning
from relaxbench.optim.parts import Part
from relaxbench.optim.published import Published
from relaxbench.optim.rule import Query, State
from relaxbench.optim.rules.adamw import ADAM_LR, BETAS, DECAY, AdamW, adam
from relaxbench.optim.rules.schedule_free import between
from relaxbench.optim.rules.sgd import EMA_STEPS
from relaxbench.space import Float, Space, Value


class GPA(AdamW):
    """z ← z − η (m̂/(√v̂ + ε) + wd y), AdamW on ∇f(y);  x ← x + (z − x)/n;  y = (1 − μ_y) z + μ_y x.

    n is `ema_steps`: the μ_x of the paper is 1 − 1/n. It replaces the two loops of DiLoCo with one worker, whose L
    inner steps at outer momentum 0.9 are about μ_x = 0.9^(1/L), n = 9.5 L; an average of all z with equal weights in
    place of x gives Schedule-Free AdamW. The average x is evaluated and deployed.

    Memory: 5 copies: x, z, m, v, the gradient.
    """

    name, title = "gpa", "GPA"
    source = "Defazio et al., arXiv 2512.17131; GPAAdamW of github.com/facebookresearch/optimizers"
    wide: ClassVar[Space] = {
        "adam_lr": ADAM_LR,
        "interpolation": Float(0.0, 0.99, 0.7, below=1.0),
        "ema_steps": EMA_STEPS,
        "beta1": AdamW.wide["beta1"],
        "beta2": AdamW.wide["beta2"],
        "decoupled_decay": DECAY,
        "schedule": SCHEDULE,
    }
    space: ClassVar[Space] = {
        "adam_lr": ADAM_LR,
        "ema_steps": EMA_STEPS,
        "decoupled_decay": DECAY,
        "schedule": SCHEDULE,
    }
    default_fixed: ClassVar[Mapping[str, Value]] = {"interpolation": 0.7, **BETAS}
    publications = (
        Published(
            "transformer",
            {
                "adam_lr": 1e-3,
                "interpolation": 0.7,
                "ema_steps": 303.0,
                **BETAS,
                "decoupled_decay": 0.01,
                "schedule": "warmup",
            },
            "the README of the code, configuration 1: μ_x = 0.9967, which is 32 steps of DiLoCo",
            {"schedule": "the README advises a warm-up and a schedule and names none"},
        ),
    )
    parts = (
        Part("interpolation", "interpolation", "gradients at z, which is AdamW with EMA", fixed={"interpolation": 0.0}),
        Part("averaging", "averaging", "its last z, which is AdamW", rule="adamw"),
    )
    reasons: ClassVar[Mapping[str, str]] = {
        "adam_lr": "AdamW's range, as the README of the code advises",
        "interpolation": "the default of the code, which works in most cases by its README",
        "ema_steps": "the range of an EMA's length; the README advises 152 to 625 for long runs",
        "beta1": "the default of the code",
        "beta2": "the default of the code",
        "decoupled_decay": "AdamW's range, around the 0.01 to 0.1 of the README",
    }
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "interpolation": Meaning("Share μ_y of the average x in the point y of the gradient"),
    }
    elementwise = True
    copies = 5

    def init(self, x: Tensor, seed: Tensor) -> State:
        return {**super().init(x, seed), "z": x.clone()}

    def query(self, state: State, hyper: Hyper) -> Query:
        return Query(between(state, hyper["interpolation"]), state["t"])

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        x, z = state["x"], state["z"]
        self._forget(state, hyper)
        d = between(state, hyper["interpolation"]).mul_(hyper["decoupled_decay"]).add_(adam(state, grad, hyper))
        z.sub_(d.mul_(hyper["adam_lr"]))
        x.add_((z - x) / hyper["ema_steps"])
        state["t"] += 1
        return state
