"""AdamW that deploys an average of its weights: exponential (EMA), or of its latest checkpoints (LAWA)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from relaxbench.optim.hyper import Hyper
from relaxbench.optim.meanings import Meaning
from relaxbench.optim.outer_step import outer_step
from relaxbench.optim.parts import Part
from relaxbench.optim.published import CIFAR_STEPS, Published
from relaxbench.optim.rule import State, check_replicas, place
from relaxbench.optim.rules.adamw import AdamW
from relaxbench.optim.rules.sgd import AVERAGE, EMA_REASON, EMA_STEPS, follow
from relaxbench.space import Float, Space, Value

CHECKPOINTS = 6


def _published(kind: str, extra: Mapping[str, Value], source: str, assumed: Mapping[str, str]) -> Published:
    """Add the values of an average to AdamW's published ones."""
    alone = AdamW.publication(kind)
    assert alone is not None
    return Published(kind, {**alone.values, **extra}, f"{alone.source}; {source}", assumed)


class AdamWEMA(AdamW):
    """AdamW that deploys the exponential moving average of its weights over about `ema_steps` steps.

    A control method, as SGD with EMA is: averaging alone may explain a part of what a relaxation method gains. The
    average is a plain one until it has `ema_steps` steps.

    Memory: 5 copies: x, m, v, the average, the gradient.
    """

    name, title = "adamw-ema", "AdamW with EMA"
    source = "Polyak & Juditsky, 1992; exponential form as in Tarvainen & Valpola, 2017, who use Adam"
    wide: ClassVar[Space] = {**AdamW.wide, "ema_steps": EMA_STEPS}
    space: ClassVar[Space] = {**AdamW.space, "ema_steps": EMA_STEPS}
    default_fixed: ClassVar[Mapping[str, Value]] = AdamW.default_fixed
    publications = tuple(_published(kind, {"ema_steps": 1e3}, AVERAGE, {}) for kind in ("fully-connected", "cifar-10"))
    parts = (Part("averaging", "averaging", "its last iterate, which is AdamW", rule="adamw"),)
    reasons: ClassVar[Mapping[str, str]] = {**AdamW.reasons, "ema_steps": EMA_REASON}
    averages = frozenset({"average"})
    elementwise = True
    copies = 5

    def init(self, x: Tensor, seed: Tensor) -> State:
        return {**super().init(x, seed), "average": x.clone()}

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        super().update(state, grad, loss, hyper)
        follow(state, hyper["ema_steps"])
        return state

    def iterate(self, state: State) -> Tensor:
        return state["average"]


class AdamWLAWA(AdamW):
    """AdamW that deploys the plain mean of its latest k checkpoints, one every `window_steps`/k steps (rounded down).

    Until there are k checkpoints, it is the mean of those there are, and x before the first one. The weights of the
    steps after the latest checkpoint are not part of it.

    Memory: 4 + k copies: x, m, v, k checkpoints, the gradient; 10 copies for k = 6.

    Args:
        checkpoints: Number k of checkpoints, at least 1.
    """

    name, title = "adamw-lawa", "AdamW with LAWA"
    source = "Kaddour, arXiv 2209.14981 (latest weight averaging)"
    wide: ClassVar[Space] = {**AdamW.wide, "window_steps": Float(5.0, 500.0, 50.0, log=True)}
    space: ClassVar[Space] = {**AdamW.space, "window_steps": Float(5.0, 500.0, 50.0, log=True)}
    default_fixed: ClassVar[Mapping[str, Value]] = AdamW.default_fixed
    publications = (
        _published(
            "cifar-10",
            {"window_steps": float(CHECKPOINTS * CIFAR_STEPS)},
            "arXiv 2209.14981: a checkpoint at the end of every epoch",
            {"window_steps": "six checkpoints, the default of the option; the paper trains no network on CIFAR-10"},
        ),
    )
    parts = (Part("averaging", "averaging", "its last iterate, which is AdamW", rule="adamw"),)
    reasons: ClassVar[Mapping[str, str]] = {
        **AdamW.reasons,
        "window_steps": "the range of an EMA's length; the published epoch between checkpoints outlasts short runs",
    }
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "window_steps": Meaning("Steps over which the k checkpoints are spread", "steps")
    }
    averages = frozenset({"ring"})
    ages = AdamW.ages | {"taken"}
    elementwise = True
    copies = 4 + CHECKPOINTS

    def __init__(self, checkpoints: int = CHECKPOINTS) -> None:
        self.checkpoints = check_replicas(checkpoints, "checkpoints")
        self.copies = 4 + checkpoints

    def init(self, x: Tensor, seed: Tensor) -> State:
        ring = x[:, None].repeat(1, self.checkpoints, 1)
        return {**super().init(x, seed), "ring": ring, "taken": x.new_zeros(len(x), 1)}

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        super().update(state, grad, loss, hyper)
        interval = (hyper["window_steps"] / self.checkpoints).to(torch.int64).clamp(min=1)
        outer_step(place(state["t"], interval) == 0, state, hyper, "x ring taken", self._keep)
        return state

    def iterate(self, state: State) -> Tensor:
        ring, taken = state["ring"], state["taken"][:, None]
        age = torch.arange(self.checkpoints, 0, -1, device=ring.device)[:, None]  # 1 for the latest, which is the last
        total = torch.where(age <= taken, ring, torch.zeros_like(ring)).sum(dim=1)
        count = state["taken"].clamp(min=1, max=self.checkpoints)
        return torch.where(state["taken"] > 0, total / count, state["x"])

    @staticmethod
    def _keep(state: State, hyper: Hyper) -> State:
        ring = torch.cat([state["ring"][:, 1:], state["x"][:, None]], dim=1)
        return {"ring": ring, "taken": state["taken"] + 1}
