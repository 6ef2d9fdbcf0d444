"""Elastic-SGD: replicas that are tied to a centre, and a centre that follows their mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from relaxbench.optim.hyper import GAMMA_END, GAMMA_START, LR, MOMENTUM, SCHEDULE, SCOPING, WEIGHT_DECAY, Hyper
from relaxbench.optim.meanings import Meaning
from relaxbench.optim.parts import INFINITE, NO_MOMENTUM, NO_SCOPING, Part
from relaxbench.optim.published import Published
from relaxbench.optim.rule import (
    Query,
    Rule,
    State,
    check_replicas,
    counters,
    expand_for_replicas,
    nesterov,
    own_batches,
    replicate,
)
from relaxbench.space import Float, Space, Value

FIXED: Mapping[str, Value] = {"moving_rate": 1.0, "momentum": 0.9, "gamma_end": 0.1, "scoping": "geometric"}
PARLE = "arXiv 1707.00424, section 4 (its Elastic-SGD column, n = 3, x at the mean)"
AS_SGD = "as in the published SGD on the same network"
AS_PARLE = "the paper gives ρ = 1/γ for Parle, from 1 to 10, and none for Elastic-SGD beside it: the same"
ASSUMED = {"weight_decay": AS_SGD, "schedule": AS_SGD, "gamma_start": AS_PARLE, "gamma_end": AS_PARLE}


class ElasticSGD(Rule):
    """n replicas: d_i = ∇f(y_i) + wd y_i + (y_i − x)/γ;  y_i ← y_i − η N(v_i, d_i);  then x ← x + c (mean y − x).

    Each replica has its own mini-batches; one update of all replicas costs n gradients. c is `moving_rate`: 1 puts x at
    the mean, as in the analysis of the papers; EASGD's x ← x + α Σ (y_i − x) is c = n α.

    Memory: 1 + 3 n copies: x, and y, v and a gradient per replica; 10 copies for n = 3.

    Args:
        replicas: Number n of replicas, at least 1.
    """

    name, title = "elastic-sgd", "Elastic-SGD"
    source = "Zhang, Choromanska & LeCun, arXiv 1412.6651; Chaudhari et al., arXiv 1704.04932"
    wide: ClassVar[Space] = {
        "lr": LR,
        "moving_rate": Float(0.05, 1.0, 1.0, log=True),
        "momentum": MOMENTUM,
        "gamma_start": GAMMA_START,
        "gamma_end": GAMMA_END,
        "scoping": SCOPING,
        "weight_decay": WEIGHT_DECAY,
        "schedule": SCHEDULE,
    }
    space: ClassVar[Space] = {
        "lr": LR,
        "gamma_start": Float(0.1, 100.0, 1.0, log=True, above=True),
        "weight_decay": WEIGHT_DECAY,
        "schedule": SCHEDULE,
    }
    default_fixed: ClassVar[Mapping[str, Value]] = FIXED
    publications = (
        Published(
            "mnist-conv",
            {**FIXED, "lr": 0.1, "gamma_start": 1.0, "weight_decay": 0.0, "schedule": "step"},
            PARLE,
            ASSUMED,
        ),
        Published(
            "cifar-10",
            {**FIXED, "lr": 0.1, "gamma_start": 1.0, "weight_decay": 1e-3, "schedule": "step"},
            PARLE,
            ASSUMED,
        ),
    )
    parts = (
        NO_SCOPING,
        NO_MOMENTUM,
        Part(
            "coupling",
            "coupling",
            "γ = ∞, which is n independent copies of SGD whose mean is evaluated",
            fixed={"gamma_start": INFINITE, "gamma_end": INFINITE},
        ),
    )
    reasons: ClassVar[Mapping[str, str]] = {
        "moving_rate": "x is the mean of the replicas, as in the analysis and in Parle's code",
        "gamma_start": "three decades, as for a step size, from the published end; contains the published 1 and "
        "EASGD's α = ηρ = 0.9/n, which is γ = 0.33 at η = 0.1 and n = 3",
        "gamma_end": "the published limit ρ = 1/γ = 10, and the low end of `gamma_start`, so that a scope never grows",
    }
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "moving_rate": Meaning("Part c of the way to the mean of the replicas that x moves"),
    }
    elementwise = True
    copies = 10  # for three replicas
    scope = "gamma"

    def __init__(self, replicas: int = 3) -> None:
        self.replicas = check_replicas(replicas)
        self.copies = 1 + 3 * replicas

    def init(self, x: Tensor, seed: Tensor) -> State:
        y = replicate(x, self.replicas)
        return {"x": x.clone(), "y": y, "v": torch.zeros_like(y), **counters(x, seed)}

    def query(self, state: State, hyper: Hyper) -> Query:
        return Query(state["y"], own_batches(state, self.replicas))

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        x, y = state["x"], state["y"]
        now = {name: expand_for_replicas(value, y) for name, value in hyper.items()}
        d = (y - x[:, None]).div_(now["gamma"]).add_(now["weight_decay"] * y).add_(grad)
        y.sub_(nesterov(state["v"], now["momentum"], d).mul_(now["lr"]))
        x.add_(hyper["moving_rate"] * (y - x[:, None]).mean(dim=1))
        state["t"] += 1
        return state
