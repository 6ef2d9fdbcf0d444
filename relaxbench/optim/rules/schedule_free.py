"""Schedule-Free SGD and AdamW: an average of the iterates, near which gradients are taken, replaces the schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from relaxbench.optim import schedules
from relaxbench.optim.hyper import LR, MOMENTUM, WARMUP, WEIGHT_DECAY, Hyper
from relaxbench.optim.meanings import Meaning
from relaxbench.optim.parts import Part
from relaxbench.optim.published import Published
from relaxbench.optim.rule import Query, Rule, State, counters
from relaxbench.optim.rules.adamw import ADAM_LR, BETAS, DECAY, EPSILON, AdamW
from relaxbench.space import Float, Space, Value

TINY = 1e-30
"""Least sum of weights, so that a step size of 0 moves nothing."""

NO_LENGTH = "the README of the code recommends a warm-up and leaves its length open: that of our schedule `warmup`"


def between(state: State, share: Tensor) -> Tensor:
    """Return y = (1 − β) z + β x, in a form that is exact where x = z."""
    return ((state["x"] - state["z"]) * share).add_(state["z"])


class ScheduleFree(Rule):
    """The average x of the points z, and the point y between them at which gradients are taken."""

    def init(self, x: Tensor, seed: Tensor) -> State:
        zero = x.new_zeros(len(x), 1)
        return {"x": x.clone(), "z": x.clone(), "fastest": zero, "weights": zero.clone(), **counters(x, seed)}

    def at(self, hyper: Hyper, progress: Tensor) -> dict[str, Tensor]:
        now = super().at(hyper, progress)
        now[self.rate] = hyper[self.rate] * schedules.warm_up(hyper["warmup"], progress)
        return now

    @staticmethod
    def _average(state: State, rate: Tensor) -> None:
        """Let x follow z with the weight γ²/Σγ², where γ is the largest step size so far, of each parameter its own."""
        fastest = torch.maximum(state["fastest"], rate)
        weight = fastest * fastest
        if fastest.shape == state["fastest"].shape:
            state["fastest"].copy_(fastest)
            state["weights"].add_(weight)
        else:  # groups of parameters differ, as they may in a loop: from now on each has sums of its own
            state["fastest"], state["weights"] = fastest, state["weights"] + weight
        state["x"].add_((weight / state["weights"].clamp(min=TINY)) * (state["z"] - state["x"]))
        state["t"] += 1


class ScheduleFreeSGD(ScheduleFree):
    """y = (1 − β) z + β x;  z ← z − γ (∇f(y) + wd y);  x ← x + c (z − x) with c = γ²/Σγ², Σ over all steps so far.

    With a constant step size, x is the plain mean of all z. Only γ rises at first (`warmup`); it never falls. β is the
    hyperparameter `momentum`. The average x is evaluated and deployed.

    Memory: 3 copies: x, z, the gradient.
    """

    name, title = "schedule-free-sgd", "Schedule-Free SGD"
    source = "Defazio et al., arXiv 2405.15682, equations (3) to (5); schedulefree.SGDScheduleFree"
    wide: ClassVar[Space] = {"lr": LR, "momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY, "warmup": WARMUP}
    space: ClassVar[Space] = {"lr": Float(1e-2, 10.0, 1.0, log=True), "weight_decay": WEIGHT_DECAY}
    default_fixed: ClassVar[Mapping[str, Value]] = {"momentum": 0.9, "warmup": 0.05}
    publications = (
        Published(
            "fully-connected",
            {"lr": 1.0, "momentum": 0.9, "weight_decay": 0.0, "warmup": 0.05},
            "the defaults of schedulefree.SGDScheduleFree, the authors' package",
            {"warmup": NO_LENGTH},
        ),
    )
    parts = (
        Part("interpolation", "interpolation", "gradients at z, a plain average of SGD", fixed={"momentum": 0.0}),
        Part("warmup", "warm-up", "the full step size from the beginning", fixed={"warmup": 0.0}),
    )
    reasons: ClassVar[Mapping[str, str]] = {
        "lr": "SGD's range times ten: no velocity multiplies the gradient by 1/(1 − 0.9), and the README of the code "
        "advises 10 to 50 times the usual step size",
        "momentum": "the default β of the code, which works on most problems by its README",
        "weight_decay": "SGD's range, because the best decay depends on the data",
    }
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "lr": Meaning("Step size γ of z", "parameter²/loss"),
        "momentum": Meaning("Share β of the average x in the point y of the gradient"),
    }
    elementwise = True
    copies = 3
    ages = frozenset({"fastest", "weights"})

    def query(self, state: State, hyper: Hyper) -> Query:
        return Query(between(state, hyper["momentum"]), state["t"])

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        d = between(state, hyper["momentum"]).mul_(hyper["weight_decay"]).add_(grad)
        state["z"].sub_(d.mul_(hyper["lr"]))
        self._average(state, hyper["lr"])
        return state


class ScheduleFreeAdamW(ScheduleFree):
    """v ← β₂ v + (1 − β₂) g²;  z ← z − γ (g/(√v̂ + ε) + wd y);  x ← x + c (z − x), with g = ∇f(y).

    y = (1 − β₁) z + β₁ x, c = γ²/Σγ² and v̂, the bias-corrected v, are as in Schedule-Free SGD and AdamW. The average x
    is evaluated and deployed.

    Memory: 4 copies: x, z, v, the gradient.
    """

    name, title = "schedule-free-adamw", "Schedule-Free AdamW"
    source = "Defazio et al., arXiv 2405.15682, algorithm 1; schedulefree.AdamWScheduleFree"
    wide: ClassVar[Space] = {
        "adam_lr": ADAM_LR,
        "beta1": AdamW.wide["beta1"],
        "beta2": AdamW.wide["beta2"],
        "decoupled_decay": DECAY,
        "warmup": WARMUP,
    }
    space: ClassVar[Space] = {"adam_lr": ADAM_LR, "decoupled_decay": DECAY}
    default_fixed: ClassVar[Mapping[str, Value]] = {**BETAS, "warmup": 0.05}
    publications = (
        Published(
            "fully-connected",
            {**BETAS, "adam_lr": 0.0025, "decoupled_decay": 0.0, "warmup": 0.05},
            "the defaults of schedulefree.AdamWScheduleFree, the authors' package",
            {"warmup": NO_LENGTH},
        ),
    )
    parts = (
        Part("interpolation", "interpolation", "gradients at z, a plain average of RMSProp", fixed={"beta1": 0.0}),
        Part("warmup", "warm-up", "the full step size from the beginning", fixed={"warmup": 0.0}),
    )
    reasons: ClassVar[Mapping[str, str]] = {
        "adam_lr": "AdamW's range, which contains the default of the code, 0.0025, and ten times AdamW's 1e-3",
        "beta1": "the default of the code, which works on most problems by its README",
        "beta2": "the default of the code",
        "decoupled_decay": "AdamW's range, because the best decay depends on the data",
    }
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "adam_lr": Meaning("Step size γ of z, about the size of a step of each parameter", "parameter"),
        "beta1": Meaning("Share β₁ of the average x in the point y of the gradient"),
    }
    elementwise = True
    copies = 4
    rate = "adam_lr"
    ages = frozenset({"fastest", "weights", "forgotten2"})

    def init(self, x: Tensor, seed: Tensor) -> State:
        return {**super().init(x, seed), "v": x.new_zeros(x.shape), "forgotten2": x.new_ones(len(x), 1)}

    def query(self, state: State, hyper: Hyper) -> Query:
        return Query(between(state, hyper["beta1"]), state["t"])

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        v, beta2 = state["v"], hyper["beta2"]
        state["forgotten2"].mul_(beta2)
        v.mul_(beta2).add_(((1 - beta2) * grad).mul_(grad))
        scale = (v / (1 - state["forgotten2"])).sqrt_().add_(EPSILON)
        d = between(state, hyper["beta1"]).mul_(hyper["decoupled_decay"]).addcdiv_(grad, scale)
        del scale
        state["z"].sub_(d.mul_(hyper["adam_lr"]))
        self._average(state, hyper["adam_lr"])
        return state
