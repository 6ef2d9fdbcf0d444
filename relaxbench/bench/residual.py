"""A population that solves a differential equation, against a plain loop with nested automatic differentiation."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from relaxbench.bench.interleave import Contender, interleaved, median_ratio, stretch
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems.science.networks import Dense
from relaxbench.problems.science.poisson import Poisson
from relaxbench.training.compilation import compiled_step
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Job

SIZES = {"pinn-poisson2d-small": 32, "pinn-poisson2d": 8}
"""Problems, and the members of a population: the whole problem's intermediates fill a cache with few."""
TARGETS = {("pinn-poisson2d-small", "vectorized"): 3.0, ("pinn-poisson2d", "compiled"): 3.0}
ROUNDS, SECONDS = 15, 0.3
QUICK = 3, 0.05
CHUNK = 8
"""Queries of the population between two looks at the clock."""


def task_of(name: str) -> Poisson:
    """Return one of the problems of `SIZES`."""
    return Poisson(name, small=name.endswith("-small"))


class NestedLoop:
    """One network, trained by `torch.optim.SGD`; its Laplacian takes two backward passes within the loss.

    Satisfies `interleave.Contender`.

    Args:
        task: whose network is trained, on as many points.
        device: where it is trained.
    """

    def __init__(self, task: Poisson, device: torch.device) -> None:
        self.task, self.device = task, device
        assert isinstance(task.network, Dense)
        layers = [layer for m, n in pairwise(task.network.sizes) for layer in (nn.Linear(m, n), nn.Tanh())]
        self.network = nn.Sequential(*layers[:-1]).to(device, torch.float64)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=1e-3, momentum=0.9, nesterov=True)
        self._points: tuple[Tensor, Tensor] | None = None

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
        """Train on fresh points, or on fixed ones if the problem has such."""
        if self._points is None or self.task.fresh:
            self._points = self._draw()
        self.optimizer.zero_grad()
        self.loss(*self._points).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return 1

    def rate(self, seconds: float) -> float:
        """Return steps per second."""
        return stretch(self.step, seconds, self.device)

    def _draw(self) -> tuple[Tensor, Tensor]:
        count, edges = self.task.points
        inside = torch.rand(count, 2, dtype=torch.float64, device=self.device)
        edge = torch.rand(edges, 2, dtype=torch.float64, device=self.device)
        edge[:, 0] = (edge[:, 0] * 2).floor()
        edge[edges // 2 :] = edge[edges // 2 :].flip(1)
        return inside, edge


class Members:
    """A population of SGD. Satisfies `interleave.Contender`.

    Args:
        task: what is trained.
        device: where it is trained.
        size: K.
        compiled: whether on the compiled path, and not on the vectorized one.
    """

    def __init__(self, task: Poisson, device: torch.device, size: int, compiled: bool) -> None:
        rule = RULES["sgd"]()
        self.device, self.size = device, size
        step = compiled_step(task, rule, size) if compiled else None
        self.population = Population(Oracle(task, "vectorized"), rule, 10**9, device, compiled=step)
        self.population.admit([Job(i, i, {**defaults(rule.wide), "lr": 1e-3}) for i in range(size)])

    def step(self) -> int:
        """Advance all members."""
        self.population.advance(CHUNK)
        return self.size * CHUNK

    def rate(self, seconds: float) -> float:
        """Return member-steps per second."""
        return stretch(self.step, seconds, self.device)


def measure(device: torch.device, quick: bool, compiled: bool, tell: Callable[[str], object]) -> dict[str, Any]:
    """Measure populations and the nested loop in turn.

    Args:
        device: where they are trained.
        quick: measure briefly.
        compiled: whether populations on the compiled path are measured, too.
        tell: called with each measurement as it begins.

    Returns:
        by problem: the ``size`` of the populations, the ``rates`` of all, and ``against``, by path the ratio to the
        loop with its interval and target.
    """
    rounds, seconds = QUICK if quick else (ROUNDS, SECONDS)
    found: dict[str, Any] = {}
    for name, size in SIZES.items():
        tell(f"a population of {size} on {name} against nested automatic differentiation")
        task = task_of(name)
        contenders: dict[str, Contender] = {"plain": NestedLoop(task, device)}
        for path in ("vectorized", "compiled") if compiled else ("vectorized",):
            contenders[path] = Members(task, device, size, path == "compiled")
        rates = interleaved(contenders, rounds, seconds)
        against = {
            path: {**median_ratio(rates[path], rates["plain"]), "target": TARGETS.get((name, path))}
            for path in rates
            if path != "plain"
        }
        found[name] = {"size": size, "rates": rates, "against": against}
    return found
