"""LPF-SGD: descent on the loss smoothed by a Gaussian whose width is proportional to the norm of each filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from relaxbench.optim.hyper import LR, MOMENTUM, SCHEDULE, WEIGHT_DECAY, Hyper
from relaxbench.optim.meanings import Meaning
from relaxbench.optim.outer_step import outer_step
from relaxbench.optim.parts import NO_MOMENTUM, Part
from relaxbench.optim.published import NEAREST_STEP, Published
from relaxbench.optim.rule import Query, Rule, State, counters, nesterov, place, standard_normal
from relaxbench.space import Float, Int, Space, Value

MNIST: Mapping[str, Value] = {
    "lr": 0.01,
    "momentum": 0.9,
    "samples": 1,
    "relative_noise": 1e-3,
    "weight_decay": 5e-4,
    "schedule": "step",
}
README = "arXiv 2201.08025, table 3, and the README of its code"


class LPFSGD(Rule):
    """x ← x − η N(v, mean over i = 1 … M of ∇f(x + r |x|_F ξ_i) + wd x), each on a fresh batch.

    |x|_F is, for every weight, the norm of its filter: the row of a matrix, the output channel of a convolution, or the
    whole tensor if it has one dimension.

    Memory: 4 copies: x, the sum of gradients, v, the gradient.
    """

    name, title = "lpf-sgd", "LPF-SGD"
    source = "Bisla, Wang & Choromanska, arXiv 2201.08025"
    wide: ClassVar[Space] = {
        "lr": LR,
        "momentum": MOMENTUM,
        "samples": Int(1, 8, 4),
        "relative_noise": Float(1e-4, 0.1, 1e-2, log=True),
        "weight_decay": WEIGHT_DECAY,
        "schedule": SCHEDULE,
    }
    space: ClassVar[Space] = {
        "lr": LR,
        "samples": Int(1, 8, 1, step=7),  # M: 1 for ResNets and LeNet, 8 for wide ResNets
        "relative_noise": Float(5e-4, 2e-2, 2e-3, log=True),
        "weight_decay": WEIGHT_DECAY,
        "schedule": SCHEDULE,
    }
    default_fixed: ClassVar[Mapping[str, Value]] = {"momentum": 0.9}
    publications = (
        Published("mnist-conv", MNIST, f"{README} (LeNet)", {"schedule": NEAREST_STEP}),
        Published(
            "cifar-10",
            {**MNIST, "lr": 0.1, "relative_noise": 2e-3},
            f"{README} (ResNet-18, 50, 101)",
            {"schedule": NEAREST_STEP},
        ),
    )
    parts = (
        Part("noise", "noise", "the mean of M gradients at x itself", fixed={"relative_noise": 0.0}),
        Part("samples", "averaging over samples", "one gradient per step, M = 1", fixed={"samples": 1}),
        NO_MOMENTUM,
    )
    reasons: ClassVar[Mapping[str, str]] = {
        "samples": "the two published values of M; the released code splits one mini-batch into M parts, here each "
        "sample has a mini-batch of its own and is billed",
        "relative_noise": "published are 5e-4 to 2e-3 at the start, and up to 36 times 5e-4, about 0.02, at the end",
    }
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "samples": Meaning("Number M of gradients per step of x"),
        "relative_noise": Meaning("Standard deviation r of the noise, relative to the norm of a filter"),
    }
    copies = 4

    def __init__(self) -> None:
        self.filters: list[tuple[int, int]] = []

    def bind(self, shapes: Sequence[torch.Size]) -> None:
        self.filters = [(s[0], s[1:].numel()) if len(s) > 1 else (1, s.numel()) for s in shapes]

    def init(self, x: Tensor, seed: Tensor) -> State:
        return {"x": x.clone(), "sum": x.new_zeros(x.shape), "v": x.new_zeros(x.shape), **counters(x, seed)}

    def query(self, state: State, hyper: Hyper) -> Query:
        x = state["x"]
        noise = standard_normal(state, x.shape[1], x.dtype)
        return Query(noise.mul_(hyper["relative_noise"] * self._norms(x)).add_(x), state["t"])

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        state["sum"].add_(grad)
        state["t"] += 1
        due = place(state["t"], hyper["samples"]) == 0
        outer_step(due, state, hyper, "x sum v lr momentum weight_decay samples", self._outer)
        return state

    def period(self, hyper: Hyper) -> Tensor:
        return hyper["samples"].to(torch.int64)

    def _norms(self, x: Tensor) -> Tensor:
        """Compute the norm of every entry's filter, ``[K, P]``."""
        filters = self.filters or [(1, x.shape[1])]
        parts = torch.split(x, [count * size for count, size in filters], dim=1)
        norms = []
        for part, (count, size) in zip(parts, filters, strict=True):
            # One vector per member and filter, so that sums run in the same order for any K.
            rows = part.reshape(len(x) * count, size)
            norms.append(rows.norm(dim=1, keepdim=True).expand(-1, size).reshape(len(x), count * size))
        return torch.cat(norms, dim=1)

    @staticmethod
    def _outer(state: State, hyper: Hyper) -> State:
        x, v = state["x"], state["v"].clone()
        d = state["sum"] / hyper["samples"] + hyper["weight_decay"] * x
        return {"x": x - hyper["lr"] * nesterov(v, hyper["momentum"], d), "v": v, "sum": torch.zeros_like(x)}
