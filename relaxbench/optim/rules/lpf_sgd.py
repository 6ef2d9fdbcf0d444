"""LPF-SGD: descent on the loss smoothed by a Gaussian whose width is proportional to the norm of each filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from relaxbench.optim.hyper import LR, MOMENTUM, SCHEDULE, WEIGHT_DECAY, Hyper
from relaxbench.optim.meanings import Meaning
from relaxbench.optim.rule import Query, Rule, State, counters, nesterov, outer_step, standard_normal
from relaxbench.space import Float, Int, Space


class LPFSGD(Rule):
    """x ← x − η N(v, mean over i = 1 … M of ∇f(x + r |x|_F ξ_i) + wd x), each on a fresh batch.

    |x|_F is, for every weight, the norm of its filter: the row of a matrix, the output channel of a convolution, or the
    whole tensor if it has one dimension.

    Memory: 4 copies: x, the sum of gradients, v, the gradient.
    """

    name, title = "lpf-sgd", "LPF-SGD"
    source = "Bisla, Wang & Choromanska, arXiv 2201.08025"
    space: ClassVar[Space] = {
        "lr": LR,
        "momentum": MOMENTUM,
        "samples": Int(1, 8, 4),
        "relative_noise": Float(1e-4, 0.1, 1e-2, log=True),
        "weight_decay": WEIGHT_DECAY,
        "schedule": SCHEDULE,
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
        due = state["t"] % self.period(hyper) == 0
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
