"""The quantum harmonic oscillator, whose solution is one network, or experts on parts of the domain behind a gate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relaxbench import random
from relaxbench.problems.losses import Batch
from relaxbench.problems.problem import Params
from relaxbench.problems.samplers import Words
from relaxbench.problems.science.derivatives import Jet
from relaxbench.problems.science.networks import Dense
from relaxbench.problems.science.pinn import HELD_OUT, HELD_OUT_BOUNDARY, SolutionProblem
from relaxbench.problems.science.points import Box, branches

REACH, TIME = 5.0, math.pi / 2
"""The domain is [−5, 5] × [0, π/2]."""
DIRECTIONS, TOTAL = ((1.0, 0.0), (0.0, 1.0)), (1.0, 0.0)
"""Derivatives are taken in x and t; of the second ones, that in x alone is needed."""


def softmax(at: Jet) -> Jet:
    """Return the softmax ``[N, E]`` of functions that are linear in the coordinates: without second derivatives."""
    q = at.value.softmax(dim=-1)
    if at.first is None:
        return replace(at, value=q)
    assert at.weights is not None
    slope = at.first - (q * at.first).sum(dim=-1, keepdim=True)
    bend = (at.weights * (slope * slope - (q * slope * slope).sum(dim=-1, keepdim=True))).sum(dim=0, keepdim=True)
    return replace(at, value=q, first=q * slope, second=q * bend)


@dataclass(frozen=True)
class Gated:
    """Σ over experts e of softmax(G x + g)_e N_e(x): every expert on a part of the domain, with soft walls.

    Attributes:
        expert: the network of each.
        count: of experts.
    """

    expert: Dense
    count: int

    def layout(self) -> list[tuple[str, torch.Size]]:
        """Return names and shapes of the parameters: of the experts one after another, and of the gate."""
        experts = [(f"{name}.{e}", shape) for e in range(self.count) for name, shape in self.expert.layout()]
        return [*experts, ("gate", torch.Size([self.count, self.expert.sizes[0]])), ("bias", torch.Size([self.count]))]

    def init(self, seed: int) -> Tensor:
        """Return initial parameters: experts that differ, and a gate whose slopes are standard normal."""
        words = random.key(torch.tensor([seed]), random.INIT, torch.arange(50, 51 + self.count)[:, None])
        experts = [self.expert.init(int(number)) for number in random.bits(words, torch.tensor([0]))[1:, 0]]
        first = tuple(word[0] for word in words)
        gate = random.normal((first[0], first[1]), self.count * self.expert.sizes[0], torch.float64).flatten()
        return torch.cat([*experts, gate, torch.zeros(self.count, dtype=torch.float64)])

    def __call__(self, params: Params, inputs: Jet) -> Jet:
        """Apply the networks of one member."""
        gate = softmax(inputs.linear(params["gate"], params["bias"]))
        total: Jet | None = None
        for e in range(self.count):
            own = {name: params[f"{name}.{e}"] for name, _ in self.expert.layout()}
            share = gate.columns(e, e + 1) * self.expert(own, inputs)
            total = share if total is None else total + share
        assert total is not None
        return total


class Oscillator(SolutionProblem):
    """i ψ_t = −½ ψ_xx + ½ x² ψ on [−5, 5] × [0, π/2]; ψ = (φ₀ e^(−it/2) + φ₁ e^(−3it/2))/√2.

    φ₀ = π^(−¼) e^(−x²/2) and φ₁ = √2 x φ₀. The network has two outputs, the real and the imaginary part of ψ; its
    values are given at t = 0 and at both ends. Stiller et al. (2020), Large-scale neural solvers for partial
    differential equations, arXiv 2009.03730, decompose the domain by a gate: theirs sends a point to few experts, by
    shapes that depend on data and with jumps that no residual sees; here all experts are weighted.

    Args:
        name: as in study files.
        gated: four experts behind a gate in place of one network.
        small: fewer points, narrower networks.
    """

    caution = "Slow: a trial of the whole budget lasts minutes on one core, and no published figure is comparable."
    domain = Box((-REACH, 0.0), (REACH, TIME))
    quantity, coordinates = "Re ψ", "xt"

    def __init__(self, name: str, gated: bool = False, small: bool = False) -> None:
        super().__init__()
        self.name, self.budget, self.points, self.edge = name, 5000, 1024, 128
        experts, width, alone = 4, 16, 34
        if small:
            self.budget, self.points, self.edge = 1000, 256, 32
            experts, width, alone = 2, 12, 18
        self.network = Gated(Dense((2, width, width, 2)), experts) if gated else Dense((2, alone, alone, 2))
        kind = f"{experts} experts behind a gate" if gated else "one network"
        self.title = f"the quantum harmonic oscillator i ψ_t = −½ ψ_xx + ½ x² ψ, {kind} (Stiller et al., 2020)"
        self.data = f"{self.points:,} points inside, {self.edge} at the start and {self.edge} at the ends, fixed"

    def exact(self, x: Tensor) -> Tensor:
        """Return real and imaginary part ``[…, 2]`` of ψ at points ``[…, 2]``."""
        x, t = x[..., :1], x[..., 1:]
        ground = math.pi**-0.25 * torch.exp(-x * x / 2) / math.sqrt(2)
        excited = math.sqrt(2) * x * ground
        real = ground * torch.cos(t / 2) + excited * torch.cos(1.5 * t)
        return torch.cat([real, -ground * torch.sin(t / 2) - excited * torch.sin(1.5 * t)], dim=-1)

    def draw(self, words: Words, split: str) -> Batch:
        inside, edge = (self.points, self.edge) if split == "train" else (HELD_OUT, HELD_OUT_BOUNDARY)
        first, second, third = branches(words, 3)
        start, ends = self.domain.inside(second, edge), self.domain.inside(third, edge)
        return {
            "inside": self.domain.inside(first, inside),
            "start": torch.stack([start[..., 0], torch.zeros_like(start[..., 1])], dim=-1),
            "ends": torch.stack([REACH * torch.sign(ends[..., 0]), ends[..., 1]], dim=-1),
        }

    def field(self, params: Params, at: Jet) -> Jet:
        """Return ψ ``[N, 2]``; the network sees coordinates of the size of 1."""
        scale = torch.diag(at.value.new_tensor([1 / REACH, 1 / TIME]))
        return self.network(params, at.linear(scale, at.value.new_zeros(2)))

    def terms(self, params: Params, batch: Batch) -> Sequence[Tensor]:
        """Return both parts of i ψ_t + ½ ψ_xx − ½ x² ψ, of ψ at the start, and of ψ at the ends."""
        inside = batch["inside"]
        jet = self.field(params, Jet.at(inside, DIRECTIONS, total=TOTAL))
        assert jet.first is not None and jet.second is not None
        rest = jet.second[0] / 2 - inside[:, :1] ** 2 / 2 * jet.value
        rate = jet.first[1]
        edges = [self.field(params, Jet(batch[name])).value - self.exact(batch[name]) for name in ("start", "ends")]
        return (rest[:, 0] - rate[:, 1], rest[:, 1] + rate[:, 0], *(part for edge in edges for part in edge.unbind(1)))
