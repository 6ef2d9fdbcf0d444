"""Stochastic gradient descent with momentum, with and without an average of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from relaxbench.optim.hyper import LR, MOMENTUM, SCHEDULE, WEIGHT_DECAY, Hyper
from relaxbench.optim.parts import Part
from relaxbench.optim.published import Published
from relaxbench.optim.rule import Query, Rule, State, counters, nesterov
from relaxbench.space import Float, Value

MNIST: Mapping[str, Value] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "schedule": "step"}
CIFAR: Mapping[str, Value] = {**MNIST, "weight_decay": 1e-3}
MNIST_SOURCE = (
    "arXiv 1611.01838, section 5, and arXiv 1704.04932, the baselines: lr 0.1, divided by 5 every 30 of 100 epochs"
)
CIFAR_SOURCE = (
    "arXiv 1611.01838, section 5, and the README of its code (--L2 1e-3): lr 0.1, divided by 5 every 60 of 200 epochs"
)
TABLE = "arXiv 1805.08095, table 1 (heavy ball)"
AVERAGE = "weights 0.999 of arXiv 1703.01780 (1/0.001 steps)"
EMA_STEPS = Float(5.0, 500.0, 50.0, log=True)
EMA_REASON = "two decades up to the length of a short run; the published 1000 averages such a run entirely"
NOT_GIVEN = "the paper gives the result without the setting; with this one `reproduce curveball-toys` meets its row"


class SGD(Rule):
    """d = ∇f(x) + wd x;  v ← m v + d;  x ← x − η (d + m v), Nesterov's form as in PyTorch.

    Memory: 3 copies: x, v, the gradient.

    Args:
        nesterov: Use Nesterov's momentum. If False, x ← x − η v (heavy ball).
    """

    name, title = "sgd", "SGD"
    source = "Sutskever et al., ICML 2013; torch.optim.SGD"
    space = {"lr": LR, "momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY, "schedule": SCHEDULE}
    publications: ClassVar[tuple[Published, ...]] = (
        Published("fully-connected", MNIST, MNIST_SOURCE),
        Published("mnist-conv", MNIST, MNIST_SOURCE),
        Published("cifar-10", CIFAR, CIFAR_SOURCE),
        Published(
            "rosenbrock",
            {"lr": 1e-3, "momentum": 0.95, "weight_decay": 0.0, "schedule": "constant"},
            TABLE,
            {"lr": NOT_GIVEN, "momentum": NOT_GIVEN},
            {"nesterov": False},
        ),
        Published(
            "linear-net",
            {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.0, "schedule": "constant"},
            TABLE,
            {"lr": NOT_GIVEN, "momentum": NOT_GIVEN},
            {"nesterov": False},
        ),
    )
    reasons: ClassVar[Mapping[str, str]] = {
        "lr": "three decades around the published 0.1, up to a value at which most networks diverge",
        "momentum": "every value below 1 that is used; the published 0.9 lies inside",
        "weight_decay": "four decades around the published 1e-3 and 5e-4; the low end has no effect",
        "schedule": "constant, the published steps, and the two curves in common use since",
    }
    elementwise = True
    copies = 3

    def __init__(self, nesterov: bool = True) -> None:
        self.nesterov = nesterov

    def init(self, x: Tensor, seed: Tensor) -> State:
        return {"x": x.clone(), "v": x.new_zeros(x.shape), **counters(x, seed)}

    def query(self, state: State, hyper: Hyper) -> Query:
        return Query(state["x"], state["t"])

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        x, v = state["x"], state["v"]
        d = (hyper["weight_decay"] * x).add_(grad)
        direction = nesterov(v, hyper["momentum"], d)
        x.sub_(direction.mul_(hyper["lr"]) if self.nesterov else hyper["lr"] * v)
        state["t"] += 1
        return state


def follow(state: State, ema_steps: Tensor) -> None:
    """Move the average towards x. It is a plain one at first: from the first step an EMA would keep the start."""
    weight = 1.0 / state["t"].to(ema_steps.dtype).clamp(max=ema_steps)
    state["average"].add_(weight * (state["x"] - state["average"]))


class SGDEMA(SGD):
    """SGD that deploys the exponential moving average of its weights over about `ema_steps` steps.

    A control method: relaxation methods average as well, and averaging alone may explain a part of their gain.

    Memory: 4 copies: x, v, the average, the gradient.
    """

    name, title = "sgd-ema", "SGD with EMA"
    source = "Polyak & Juditsky, 1992; exponential form as in Tarvainen & Valpola, 2017"
    space = {**SGD.space, "ema_steps": EMA_STEPS}
    publications = (
        Published("fully-connected", {**MNIST, "ema_steps": 1e3}, f"{MNIST_SOURCE}; {AVERAGE}"),
        Published("mnist-conv", {**MNIST, "ema_steps": 1e3}, f"{MNIST_SOURCE}; {AVERAGE}"),
        Published("cifar-10", {**CIFAR, "ema_steps": 1e3}, f"{CIFAR_SOURCE}; {AVERAGE}"),
    )
    parts = (Part("averaging", "averaging", "its last iterate, which is SGD", rule="sgd"),)
    reasons: ClassVar[Mapping[str, str]] = {**SGD.reasons, "ema_steps": EMA_REASON}
    averages = frozenset({"average"})
    elementwise = True
    copies = 4

    def init(self, x: Tensor, seed: Tensor) -> State:
        return {**super().init(x, seed), "average": x.clone()}

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        super().update(state, grad, loss, hyper)
        follow(state, hyper["ema_steps"])
        return state

    def iterate(self, state: State) -> Tensor:
        return state["average"]
