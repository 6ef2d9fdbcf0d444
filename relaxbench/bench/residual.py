"""A population that solves a differential equation, against a plain loop with nested automatic differentiation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from relaxbench.bench.interleave import interleaved, median_ratio, stretch
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems import problem
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Job

NAME, SIZE, TARGET = "pinn-poisson2d-small", 32, 3.0
INSIDE, EDGE, WIDTH = 48, 16, 16
"""Points of a gradient, and neurons per layer: those of the problem."""
ROUNDS, SECONDS = 15, 0.3
QUICK = 3, 0.05
CHUNK = 8
"""Queries of the population between two looks at the clock."""


class NestedLoop:
    """One network, trained by `torch.optim.SGD`; its Laplacian takes two backward passes within the loss.

    Satisfies `interleave.Contender`.

    Args:
        device: where it is trained.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        layers = [nn.Linear(2, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 1)]
        self.network = nn.Sequential(*layers).to(device, torch.float64)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=1e-3, momentum=0.9, nesterov=True)

    def loss(self, inside: Tensor, edge: Tensor) -> Tensor:
        """Return the loss of the problem on points ``[N, 2]``."""
        x = inside.requires_grad_()
        u = self.network(x)
        (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        second = [torch.autograd.grad(slope[:, i].sum(), x, create_graph=True)[0][:, i] for i in (0, 1)]
        source = 2 * math.pi**2 * (math.pi * x.detach()).sin().prod(dim=1)
        residual, boundary = second[0] + second[1] + source, self.network(edge)
        loss: Tensor = (residual.square().mean() + boundary.square().mean()) / math.pi**4
        return loss

    def step(self) -> int:
        """Train on fresh points."""
        inside = torch.rand(INSIDE, 2, dtype=torch.float64, device=self.device)
        edge = torch.rand(EDGE, 2, dtype=torch.float64, device=self.device)
        edge[:, 0] = (edge[:, 0] * 2).floor()
        edge[EDGE // 2 :] = edge[EDGE // 2 :].flip(1)
        self.optimizer.zero_grad()
        self.loss(inside, edge).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return 1

    def rate(self, seconds: float) -> float:
        """Return steps per second."""
        return stretch(self.step, seconds, self.device)


class Members:
    """A population of SGD on the vectorized path. Satisfies `interleave.Contender`.

    Args:
        device: where it is trained.
    """

    def __init__(self, device: torch.device) -> None:
        rule = RULES["sgd"]()
        self.device = device
        self.population = Population(Oracle(problem(NAME), "vectorized"), rule, budget=10**9, device=device)
        self.population.admit([Job(i, i, {**defaults(rule.wide), "lr": 1e-3}) for i in range(SIZE)])

    def step(self) -> int:
        """Advance all members."""
        self.population.advance(CHUNK)
        return SIZE * CHUNK

    def rate(self, seconds: float) -> float:
        """Return member-steps per second."""
        return stretch(self.step, seconds, self.device)


def measure(device: torch.device, quick: bool, tell: Callable[[str], object]) -> dict[str, Any]:
    """Measure both in turn: their rates, and the ratio with its interval and target."""
    tell(f"a population of {SIZE} on {NAME} against nested automatic differentiation")
    rounds, seconds = QUICK if quick else (ROUNDS, SECONDS)
    rates = interleaved({"ours": Members(device), "plain": NestedLoop(device)}, rounds, seconds)
    against = median_ratio(rates["ours"], rates["plain"]) | {"target": TARGET}
    return {"problem": NAME, "size": SIZE, "rates": rates, "against": against}
