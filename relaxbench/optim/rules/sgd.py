"""Stochastic gradient descent with momentum, with and without an average of its weights."""

from __future__ import annotations

from torch import Tensor

from relaxbench.optim.hyper import LR, MOMENTUM, SCHEDULE, WEIGHT_DECAY, Hyper
from relaxbench.optim.meanings import Meaning
from relaxbench.optim.rule import Query, Rule, State, counters, nesterov
from relaxbench.space import Float


class SGD(Rule):
    """d = ∇f(x) + wd x;  v ← m v + d;  x ← x − η (d + m v), Nesterov's form as in PyTorch.

    Memory: 3 copies: x, v, the gradient.

    Args:
        nesterov: Use Nesterov's momentum. If False, x ← x − η v (heavy ball).
    """

    name, title = "sgd", "SGD"
    source = "Sutskever et al., ICML 2013; torch.optim.SGD"
    space = {"lr": LR, "momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY, "schedule": SCHEDULE}
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


class SGDEMA(SGD):
    """SGD that deploys the exponential moving average of its weights over about `ema_steps` steps.

    A control method: relaxation methods average as well, and averaging alone may explain a part of their gain.

    Memory: 4 copies: x, v, the average, the gradient.
    """

    name, title = "sgd-ema", "SGD with EMA"
    source = "Polyak & Juditsky, 1992; exponential form as in Tarvainen & Valpola, 2017"
    space = {**SGD.space, "ema_steps": Float(5.0, 500.0, 50.0, log=True)}
    meanings = {"ema_steps": Meaning("Length of the average", "steps")}
    copies = 4

    def init(self, x: Tensor, seed: Tensor) -> State:
        return {**super().init(x, seed), "average": x.clone()}

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        super().update(state, grad, loss, hyper)
        # A plain average at first: an EMA from the first step would retain the initial weights.
        weight = 1.0 / state["t"].to(grad.dtype).clamp(max=hyper["ema_steps"])
        state["average"].add_(weight * (state["x"] - state["average"]))
        return state

    def iterate(self, state: State) -> Tensor:
        return state["average"]
