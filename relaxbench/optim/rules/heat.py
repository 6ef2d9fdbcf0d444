"""Heat-equation smoothing: descent on the loss convolved with a Gaussian."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from relaxbench.optim.hyper import INNER_STEPS, LR, MEAN_LR, MOMENTUM, SCHEDULE, SCOPING, WEIGHT_DECAY, Hyper
from relaxbench.optim.meanings import Meaning
from relaxbench.optim.outer_step import outer_step
from relaxbench.optim.parts import HALF_STEPS, NO_MOMENTUM, Part
from relaxbench.optim.published import CIFAR_STEPS, MNIST_STEPS, Published, scope_ends
from relaxbench.optim.rule import Query, Rule, State, counters, nesterov, place, standard_normal
from relaxbench.space import Float, Int, Space, Value

NO_WIDTH = 1e-15
"""A σ of which the square is still a number of 32 bits, and which moves no parameter."""
RESEARCH = "arXiv 1704.04932, section 5 (its HEAT column), and the authors' record of its runs"
AS_SGD = "not in the record: as in the published SGD on the same network"
NOT_STATED: Mapping[str, str] = {
    "lr": AS_SGD,
    "schedule": AS_SGD,
    "inner_steps": "not in the record: the 5 of the implicit Hamilton–Jacobi variant, made even for pairs of noise",
    "sigma_start": "σ² = γ/β from the record's γ and ε: σ = √γ · 1e-4",
    "sigma_end": "σ² = γ/β from the record's γ and ε: σ = √γ · 1e-4",
}


def _sigmas(coupling: float, steps: int) -> dict[str, Value]:
    """Convert a published coupling, which grows by 1 + 1e-4 a step, with ε = 1e-4 to the ends of σ."""
    ends = scope_ends(coupling, 1e-4, steps)
    return {f"sigma_{end}": float(f"{math.sqrt(float(ends[f'gamma_{end}'])) * 1e-4:.2g}") for end in ("start", "end")}


CANONICAL: Mapping[str, Value] = {
    "lr": 0.1,
    "inner_steps": 6,
    "momentum": 0.9,
    "scoping": "geometric",
    "weight_decay": 0.0,
    "schedule": "step",
}


class Heat(Rule):
    """x ← x − η N(v, mean over i = 1 … L of ∇f(x + σ ξ_i) + wd x), in antithetic pairs ±ξ, each on a fresh batch.

    ξ is drawn once per pair, and kept for the second half. If L is odd, the last ξ has no partner: the mean is still
    unbiased and has slightly more variance.

    σ² = γ/β is the variance of the Gaussian. Only the ratio matters, so σ is the only parameter; its schedule acts on
    σ².

    Memory: 5 copies: x, the sum of gradients, v, ξ, the gradient.
    """

    name, title = "heat", "Heat equation"
    source = "Chaudhari et al., arXiv 1704.04932, section 3.3 (the heat equation column)"
    wide: ClassVar[Space] = {
        "lr": LR,
        "inner_steps": INNER_STEPS,
        "momentum": MOMENTUM,
        "sigma_start": Float(1e-3, 0.3, 0.05, log=True, above=True),
        "sigma_end": Float(1e-4, 0.1, 1e-3, log=True, above=True),
        "scoping": SCOPING,
        "weight_decay": WEIGHT_DECAY,
        "schedule": SCHEDULE,
    }
    space: ClassVar[Space] = {
        "lr": MEAN_LR,
        "inner_steps": Int(6, 10, 6, step=4),
        "sigma_start": Float(1e-3, 0.1, 1e-2, log=True, above=True),
        "weight_decay": WEIGHT_DECAY,
        "schedule": SCHEDULE,
    }
    default_fixed: ClassVar[Mapping[str, Value]] = {"momentum": 0.9, "sigma_end": 1e-4, "scoping": "geometric"}
    publications = (
        Published("fully-connected", {**CANONICAL, **_sigmas(1e-3, 6 * MNIST_STEPS)}, RESEARCH, NOT_STATED),
        Published("mnist-conv", {**CANONICAL, **_sigmas(1e-3, 6 * MNIST_STEPS)}, RESEARCH, NOT_STATED),
        Published(
            "cifar-10", {**CANONICAL, **_sigmas(0.03, 10 * CIFAR_STEPS), "weight_decay": 1e-3}, RESEARCH, NOT_STATED
        ),
    )
    parts = (
        Part(
            "scoping",
            "σ scoping",
            "σ constant at the geometric mean of its start and end",
            fixed={"scoping": "mean"},
        ),
        Part(
            "noise",
            "noise",
            "σ = 0, the mean of L gradients at x",
            fixed={"sigma_start": NO_WIDTH, "sigma_end": NO_WIDTH},
        ),
        NO_MOMENTUM,
        HALF_STEPS,
    )
    reasons: ClassVar[Mapping[str, str]] = {
        "lr": "as many decades as SGD's, three times as high, because a mean of L gradients has less noise than one",
        "inner_steps": "the published lengths of the same authors' inner loops, 5 and 10, made even for pairs of noise",
        "sigma_start": "two decades, four in σ² = γ/β; the published γ and β give 0.003 (MNIST) and 0.0006 (CIFAR-10, "
        "which hardly smooths); above 0.1 the noise is as large as the initial weights of a layer of 100 inputs",
        "sigma_end": "below every published value, so that a run ends on the loss itself",
    }
    meanings = {
        "inner_steps": Meaning("Number L of gradients per step of x"),
        "sigma_start": Meaning("Standard deviation σ of the Gaussian at the start of training", "parameter"),
        "sigma_end": Meaning("Standard deviation σ at the end of training", "parameter"),
    }
    copies = 5
    scope = "sigma"

    def init(self, x: Tensor, seed: Tensor) -> State:
        zero = x.new_zeros(x.shape)
        state = {"x": x.clone(), "sum": zero, "v": zero.clone(), **counters(x, seed)}
        return {**state, "noise": standard_normal(state, x.shape[1], x.dtype)}

    def query(self, state: State, hyper: Hyper) -> Query:
        return Query((hyper["sigma"] * state["noise"]).add_(state["x"]), state["t"])

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        state["sum"].add_(grad)
        state["t"] += 1
        now = place(state["t"], hyper["inner_steps"])
        outer_step(now == 0, state, hyper, "x sum v lr momentum weight_decay inner_steps", self._outer)
        new_pair, noise = now % 2 == 0, state["noise"]
        if new_pair is True:  # a single member: the general case with fewer operations
            noise.copy_(standard_normal(state, noise.shape[1], noise.dtype))
        else:
            noise.neg_()
            outer_step(new_pair, state, {}, "t seed noise", self._draw)
        return state

    def period(self, hyper: Hyper) -> Tensor:
        return hyper["inner_steps"].to(torch.int64)

    @staticmethod
    def _outer(state: State, hyper: Hyper) -> State:
        x, v = state["x"], state["v"].clone()
        d = state["sum"] / hyper["inner_steps"] + hyper["weight_decay"] * x
        return {"x": x - hyper["lr"] * nesterov(v, hyper["momentum"], d), "v": v, "sum": torch.zeros_like(x)}

    @staticmethod
    def _draw(state: State, _: Hyper) -> State:
        noise = state["noise"]
        return {"noise": standard_normal(state, noise.shape[1], noise.dtype)}
