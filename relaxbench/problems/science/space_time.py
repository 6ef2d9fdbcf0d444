"""Equations in one space dimension and time, whose trivial solutions hold networks for long."""

from __future__ import annotations

import math
from collections.abc import Sequence

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

GRID = (257, 101)
"""Lines of the grid from whose interior training points are taken, as published, in space and time."""
SOURCE = "Rathore et al., arXiv 2402.01868"
"""Rathore, Lei, Frangella, Lu & Udell (2024), Challenges in training PINNs."""


class SpaceTime(SolutionProblem):
    """A network u(x, t) on [0, X] × [0, 1]; the loss is the sum of the terms' mean squares.

    Args:
        name: as in study files.
        speed: the number in the equation that makes it hard.
        small: a narrow network on fewer points.
    """

    hard: float
    easy: float
    scales: tuple[float, float]
    equation: str
    figures: str
    right: float = 2 * math.pi
    coordinates = "xt"

    def __init__(self, name: str, small: bool = False) -> None:
        super().__init__()
        self.name, self.speed, self.scale = name, self.hard, self.scales[0]
        self.network, self.points, self.edge, self.budget = Dense((2, 50, 50, 50, 1)), 2048, 128, 10_000
        self.published = (
            f"{self.figures} (quoted second-hand; widths 50 to 400, 10,000 points, float32, 41,000 steps of Adam)"
        )
        if small:
            self.speed, self.scale, self.published = self.easy, self.scales[1], ""
            self.network, self.points, self.edge, self.budget = Dense((2, 20, 20, 20, 1)), 1024, 64, 2000
        self.domain = Box((0.0, 0.0), (self.right, 1.0))
        self.title = f"{self.equation.format(self.speed)} ({SOURCE})"
        self.data = f"{self.points:,} points of a grid, {self.edge} at the start and {self.edge} on either side, fixed"

    def start(self, x: Tensor) -> Tensor:
        """Return u(x, 0)."""
        raise NotImplementedError

    def draw(self, words: Words, split: str) -> Batch:
        first, second, third = branches(words, 3)
        if split == "train":
            inside = self._of_grid(first)
            x, t = (torch.linspace(0, end, self.edge, dtype=torch.float64)[None] for end in (self.right, 1.0))
        else:
            inside = self.domain.inside(first, HELD_OUT)
            line = Box((0.0,), (1.0,))
            x = self.right * line.inside(second, HELD_OUT_BOUNDARY)[..., 0]
            t = line.inside(third, HELD_OUT_BOUNDARY)[..., 0]
        zero = torch.zeros_like(t)
        return {
            "inside": inside,
            "start": torch.stack([x, zero], dim=-1),
            "left": torch.stack([zero, t], dim=-1),
            "right": torch.stack([zero + self.right, t], dim=-1),
        }

    def edges(self, params: Params, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return u − u* at the start, and u on the left and on the right, ``[N]`` each."""
        names = ("start", "left", "right")
        u = self.field(params, Jet(torch.cat([batch[name] for name in names]))).value[:, 0]
        start, left, right = u.split_with_sizes([len(batch[name]) for name in names])
        return start - self.start(batch["start"][:, 0]), left, right

    def _of_grid(self, words: Words) -> Tensor:
        """Draw points of the grid's interior without replacement, ``[1, N, 2]``."""
        columns, rows = GRID[0] - 2, GRID[1] - 1
        order = random.permutation(words, columns * rows)[..., : self.points].to(torch.float64)
        row = (order / columns).floor()
        x = (order - columns * row + 1) * (self.right / (GRID[0] - 1))
        return torch.stack([x, (row + 1) / (GRID[1] - 1)], dim=-1)


class Convection(SpaceTime):
    """u_t + β u_x = 0, u(x, 0) = sin x, periodic in x; u = sin(x − βt)."""

    hard, easy, scales = 40.0, 5.0, (100.0, 5.0)
    equation = "convection u_t + {0:g} u_x = 0, periodic, u(x, 0) = sin x"
    figures = "Adam and L-BFGS 4.19e-3, then with NysNewton-CG 1.94e-3"

    def exact(self, x: Tensor) -> Tensor:
        return (x[..., :1] - self.speed * x[..., 1:]).sin()

    def start(self, x: Tensor) -> Tensor:
        return x.sin()

    def terms(self, params: Params, batch: Batch) -> Sequence[Tensor]:
        u = self.field(params, Jet.at(batch["inside"], [(self.speed, 1.0)], order=1))
        assert u.first is not None
        start, left, right = self.edges(params, batch)
        return u.first[0, :, 0], start, right - left


class Reaction(SpaceTime):
    """u_t = ρ u (1 − u), u(x, 0) = h(x) = exp(−½ ((x − π)/(π/4))²), periodic in x; u = h e^ρt / (h e^ρt + 1 − h)."""

    hard, easy, scales = 5.0, 2.0, (60.0, 20.0)
    equation = "reaction u_t = {0:g} u (1 − u), periodic, u(x, 0) a bell"
    figures = "Adam and L-BFGS 1.92e-2, then with NysNewton-CG 9.92e-3"

    def exact(self, x: Tensor) -> Tensor:
        start = self.start(x[..., :1])
        grown = start * (self.speed * x[..., 1:]).exp()
        return grown / (grown + 1 - start)

    def start(self, x: Tensor) -> Tensor:
        return (-(((x - math.pi) / (math.pi / 4)) ** 2) / 2).exp()

    def terms(self, params: Params, batch: Batch) -> Sequence[Tensor]:
        jet = self.field(params, Jet.at(batch["inside"], [(0.0, 1.0)], order=1))
        assert jet.first is not None
        u = jet.value[:, 0]
        start, left, right = self.edges(params, batch)
        return jet.first[0, :, 0] - self.speed * u * (1 - u), start, right - left


class Wave(SpaceTime):
    """u_tt = 4 u_xx on [0, 1]², u = 0 at both ends, u_t(x, 0) = 0, u(x, 0) = sin πx + ½ sin βπx.

    u = sin πx cos 2πt + ½ sin βπx cos 2βπt.
    """

    hard, easy, scales, right = 5.0, 1.0, (20.0, 11.0), 1.0
    equation = "wave u_tt = 4 u_xx, u(x, 0) = sin πx + ½ sin {0:g}πx"
    figures = "Adam and L-BFGS 5.52e-2, then with NysNewton-CG 1.27e-2"

    def exact(self, x: Tensor) -> Tensor:
        x, t, b = math.pi * x[..., :1], 2 * math.pi * x[..., 1:], self.speed
        return x.sin() * t.cos() + (b * x).sin() * (b * t).cos() / 2

    def start(self, x: Tensor) -> Tensor:
        return (math.pi * x).sin() + (self.speed * math.pi * x).sin() / 2

    def terms(self, params: Params, batch: Batch) -> Sequence[Tensor]:
        _, residual = self.laplacian(params, batch["inside"], (-4.0, 1.0))
        at_rest = self.field(params, Jet.at(batch["start"], [(0.0, 1.0)], order=1)).first
        assert at_rest is not None
        start, left, right = self.edges(params, batch)
        return residual, start, at_rest[0, :, 0], left, right
