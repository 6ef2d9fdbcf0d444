"""Hamilton–Jacobi relaxation without viscosity: descent on the Moreau envelope, in its two published forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from relaxbench.optim.hyper import (
    AVERAGING,
    GAMMA_END,
    GAMMA_START,
    INNER_STEPS,
    LR,
    MEAN_LR,
    MOMENTUM,
    RELAXED_INNER_STEPS,
    SCHEDULE,
    SCOPING,
    WEIGHT_DECAY,
    Hyper,
)
from relaxbench.optim.meanings import Meaning
from relaxbench.optim.outer_step import outer_step
from relaxbench.optim.parts import (
    HALF_STEPS,
    INFINITE,
    NO_INNER_MOMENTUM,
    NO_MOMENTUM,
    NO_OUTER_MOMENTUM,
    NO_SCOPING,
    ZERO,
    Part,
)
from relaxbench.optim.published import CIFAR_STEPS, MNIST_STEPS, Published, scope_ends
from relaxbench.optim.rule import Query, Rule, State, counters, nesterov, uniform_value
from relaxbench.optim.rules.entropy_sgd import CANONICAL, FIXED, RELAXED, RELAXED_REASONS, SEARCHED, EntropySGD
from relaxbench.space import Float, Int, Space, Value

RESEARCH = "arXiv 1704.04932, section 5, and the authors' record of its runs"
AS_ENTROPY = "not in the record: as in the published Entropy-SGD, of which this is a special case"
AS_SGD = "not in the record: as in the published SGD on the same network"
NOT_STATED = dict.fromkeys(("outer_lr", "inner_lr", "outer_momentum", "schedule", "anneal"), AS_ENTROPY)
IMPLICIT: Mapping[str, Value] = {
    "lr": 0.1,
    "inner_steps": 5,
    "momentum": 0.9,
    "averaging": 0.75,
    "gamma_start": 0.1,
    "gamma_end": 0.01,
    "scoping": "geometric",
    "weight_decay": 0.0,
    "schedule": "step",
}
CONTRACTS = (
    "not in the record, and with the γ of the other variants it would not contract: the middle and end of the default"
)
IMPLICIT_NOT_STATED = {"lr": AS_SGD, "schedule": AS_SGD, "gamma_start": CONTRACTS, "gamma_end": CONTRACTS}


class HJ(EntropySGD):
    """Descent form: Entropy-SGD at temperature 0 with a = 0, so that x moves to the last inner iterate.

    L times: d = ∇f(y) + wd y + (y − x)/γ;  y ← y − η_y N(v, d).  Then x ← x − η_x N(v_x, x − y);  y = x.

    Memory: 6 copies, as for Entropy-SGD.
    """

    name, title = "hj", "Hamilton–Jacobi"
    source = "Chaudhari et al., arXiv 1704.04932, section 3 (non-viscous Hamilton–Jacobi)"
    wide: ClassVar[Space] = RELAXED
    space: ClassVar[Space] = {**SEARCHED, "inner_steps": replace(RELAXED_INNER_STEPS, default=10)}
    default_fixed: ClassVar[Mapping[str, Value]] = FIXED
    publications = (
        Published(
            "fully-connected",
            {**CANONICAL, **scope_ends(1e-3, 1e-4, 6 * MNIST_STEPS), "inner_steps": 10},
            f"{RESEARCH}: g₀ = 1e-3, g₁ = 1e-4, L = 10 (LeNet), 6 outer epochs",
            NOT_STATED,
        ),
        Published(
            "mnist-conv",
            {**CANONICAL, **scope_ends(1e-3, 1e-4, 6 * MNIST_STEPS), "inner_steps": 10},
            f"{RESEARCH}: g₀ = 1e-3, g₁ = 1e-4, L = 10 (LeNet), 6 outer epochs",
            NOT_STATED,
        ),
        Published(
            "cifar-10",
            {**CANONICAL, **scope_ends(0.03, 1e-4, 10 * CIFAR_STEPS), "weight_decay": 1e-3},
            f"{RESEARCH}: g₀ = 0.03, g₁ = 1e-4, L = 20 (All-CNN-BN), 10 outer epochs",
            NOT_STATED,
        ),
    )
    parts = (
        NO_SCOPING,
        NO_INNER_MOMENTUM,
        NO_OUTER_MOMENTUM,
        HALF_STEPS,
        Part(
            "coupling",
            "coupling",
            "γ = ∞, which is Lookahead",
            fixed={"gamma_start": INFINITE, "gamma_end": INFINITE},
        ),
    )
    reasons: ClassVar[Mapping[str, str]] = RELAXED_REASONS
    elementwise = True
    copies = 6

    def __init__(self, restart_momentum: bool = False, coupling_outside_momentum: bool = False) -> None:
        super().__init__(restart_momentum, coupling_outside_momentum)

    def _average(self, state: State, hyper: Hyper) -> None:
        state["z"].copy_(state["y"])


class HJImplicit(Rule):
    """Implicit form: p solves p = ∇f(x − γ p) by an averaged fixed-point iteration, then x follows −p.

    p ← g(x) + wd x;  then L times, at x − γ p:  p ← b p + (1 − b)(g + wd (x − γ p));  then x ← x − η N(v, p).
    An outer step takes L + 1 gradients; b is `averaging`. The iteration contracts if and only if
    γ λ < (1 + b)/(1 − b) for all curvatures λ ≥ 0.

    Memory: 4 copies: x, p, v, the gradient.
    """

    name, title = "hj-implicit", "Hamilton–Jacobi (implicit)"
    source = "Chaudhari et al., arXiv 1704.04932 (the variant of its published Hamilton–Jacobi column)"
    wide: ClassVar[Space] = {
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
    space: ClassVar[Space] = {
        "lr": MEAN_LR,
        "inner_steps": Int(5, 10, 5, step=5),
        "gamma_start": Float(0.01, 1.0, 0.1, log=True, above=True),  # contracts for λ < 700 … 7, see the class
        "weight_decay": WEIGHT_DECAY,
        "schedule": SCHEDULE,
    }
    default_fixed: ClassVar[Mapping[str, Value]] = {
        "momentum": 0.9,
        "averaging": 0.75,
        "gamma_end": 0.01,
        "scoping": "geometric",
    }
    limited = frozenset({"gamma_start", "gamma_end"})
    publications = (
        Published(
            "fully-connected",
            IMPLICIT,
            f"{RESEARCH}: L = 5 and b = 0.75",
            IMPLICIT_NOT_STATED,
        ),
        Published(
            "mnist-conv",
            IMPLICIT,
            f"{RESEARCH}: L = 5 and b = 0.75",
            IMPLICIT_NOT_STATED,
        ),
        Published(
            "cifar-10",
            {**IMPLICIT, "weight_decay": 1e-3},
            f"{RESEARCH}: L = 5 and b = 0.75",
            IMPLICIT_NOT_STATED,
        ),
    )
    parts = (
        NO_SCOPING,
        NO_MOMENTUM,
        Part("averaging", "averaging", "the plain fixed-point iteration, b = 0", fixed={"averaging": 0.0}),
        HALF_STEPS,
        Part(
            "implicitness",
            "the implicit step",
            "γ = 0, a mean of gradients at x itself",
            fixed={"gamma_start": ZERO, "gamma_end": ZERO},
        ),
    )
    reasons: ClassVar[Mapping[str, str]] = {
        "lr": "as many decades as SGD's, three times as high: p is a mean of up to (1 + b)/(1 − b) = 7 gradients, "
        "which has less noise than one",
        "inner_steps": "the published 5, and its double: L iterations leave b^L of the error, 24 % and 6 % at b = 0.75",
        "averaging": "b = 0.75 in the published runs",
        "gamma_start": "the iteration contracts if γλ < (1 + b)/(1 − b) = 7; SGD with Nesterov's momentum m is stable "
        "up to λ = 2(1 + m)/((1 + 2m)η), 13.6 at m = 0.9 and η = 0.1, so γ < 0.5 there; smaller steps end in sharper, "
        "larger ones in flatter places, hence 1.7 decades below and a factor 2 above",
        "gamma_end": "the low end of `gamma_start`, so that a scope never grows; contracts for λ < 700",
    }
    meanings = {
        "inner_steps": Meaning("Number L of fixed-point iterations per outer step"),
        "averaging": Meaning("Weight b of the past in the average p"),
        "gamma_start": Meaning("Scope γ at the start of training, the length of the implicit step", "parameter²/loss"),
    }
    elementwise = True
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
