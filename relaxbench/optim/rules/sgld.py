"""SGLD: stochastic gradient descent with the noise that makes it sample a posterior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from relaxbench.optim.hyper import LR, SCHEDULE, TEMPERATURE, WEIGHT_DECAY, Hyper
from relaxbench.optim.parts import Part
from relaxbench.optim.published import Published
from relaxbench.optim.rule import Query, Rule, State, counters, standard_normal
from relaxbench.space import Space


class SGLD(Rule):
    """x ← x − η (∇f(x) + wd x) + √(2 η T) ξ, which samples exp(−(f(x) + wd |x|²/2)/T) as η goes to 0.

    f is the mean loss of an example. At T = 1/N for N examples, this is the posterior under a Gaussian prior of
    variance T/wd, and ε = 2 η T is the step size of the paper. The latest sample is evaluated and deployed: one
    network, not the mean of the predictions of many.

    Memory: 2 copies: x, the gradient.
    """

    name, title = "sgld", "SGLD"
    source = "Welling & Teh, ICML 2011, equation (4)"
    wide: ClassVar[Space] = {
        "lr": LR,
        "temperature": TEMPERATURE,
        "weight_decay": WEIGHT_DECAY,
        "schedule": SCHEDULE,
    }
    space: ClassVar[Space] = wide
    publications = (
        Published(
            "fully-connected",
            {"lr": 0.1, "temperature": 1.7e-5, "weight_decay": 1.7e-5, "schedule": "step"},
            "Welling & Teh, ICML 2011: the posterior, T = 1/N, here of the 60,000 examples of MNIST",
            {
                "lr": "the paper trains no network: as in the published SGD on the same network",
                "weight_decay": "a Gaussian prior of variance 1: wd = T",
                "schedule": "the paper's step size falls as a power of the step; `step` is the nearest of ours",
            },
        ),
    )
    parts = (Part("noise", "noise", "temperature 0, which is SGD without momentum", fixed={"temperature": 0.0}),)
    reasons: ClassVar[Mapping[str, str]] = {
        "temperature": "T = 1/N for a thousand to ten million examples N",
    }
    copies = 2

    def init(self, x: Tensor, seed: Tensor) -> State:
        return {"x": x.clone(), **counters(x, seed)}

    def query(self, state: State, hyper: Hyper) -> Query:
        return Query(state["x"], state["t"])

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        x, rate = state["x"], hyper["lr"]
        noise = standard_normal(state, x.shape[1], x.dtype, (2 * rate * hyper["temperature"]).sqrt())
        x.sub_((hyper["weight_decay"] * x).add_(grad).mul_(rate)).add_(noise)
        state["t"] += 1
        return state
