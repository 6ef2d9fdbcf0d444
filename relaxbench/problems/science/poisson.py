"""Poisson's equation on the unit square: with one mode of low frequency, and with four."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from relaxbench.problems.losses import Batch
from relaxbench.problems.problem import Params
from relaxbench.problems.samplers import Words
from relaxbench.problems.science.derivatives import Jet
from relaxbench.problems.science.networks import Dense
from relaxbench.problems.science.pinn import HELD_OUT, HELD_OUT_BOUNDARY, SolutionProblem, walls
from relaxbench.problems.science.points import Box, branches


class Poisson(SolutionProblem):
    """−Δu = 2π² sin πx sin πy on (0, 1)², u = 0 on the boundary; u = sin πx sin πy.

    The loss is mean r² in the interior plus mean u² on the boundary, over π⁴.
    """

    title = "Poisson's equation in the unit square: −Δu = 2π² sin πx sin πy, u = 0 on its boundary"
    data = "900 points inside and 120 on the boundary, fixed"
    published = (
        "f-dangel/kfac-pinns-experiments, 1,000 s a run, best of at most 50 settings by this test error, absolute RMSE "
        "(half of the relative one): SGD 3.6e-5, Adam 9.4e-5, L-BFGS 1.8e-4, Hessian-free 3.2e-7, KFAC 3.4e-7, "
        "ENGD 6.2e-8"
    )
    budget = 5000
    scale = math.pi**4
    domain = Box((0.0, 0.0), (1.0, 1.0))

    def __init__(self, name: str = "pinn-poisson2d", small: bool = False) -> None:
        super().__init__()
        self.name = name
        self.network, self.points = Dense((2, 64, 1), initial="torch"), (900, 120)
        if small:
            self.network, self.points, self.fresh, self.budget = Dense((2, 16, 16, 1)), (48, 16), True, 1000
            self.data = "48 points inside and 16 on the boundary, drawn anew for every gradient"
            self.published = ""

    def exact(self, x: Tensor) -> Tensor:
        return (math.pi * x).sin().prod(dim=-1, keepdim=True)

    def draw(self, words: Words, split: str) -> Batch:
        inside, edge = self.points if split == "train" else (HELD_OUT, HELD_OUT_BOUNDARY)
        first, second = branches(words)
        return {"inside": self.domain.inside(first, inside), "edge": self.domain.boundary(second, edge)}

    def terms(self, params: Params, batch: Batch) -> Sequence[Tensor]:
        _, laplacian = self.laplacian(params, batch["inside"])
        source = 2 * math.pi**2 * self.exact(batch["inside"])[:, 0]
        return laplacian + source, self.field(params, Jet(batch["edge"])).value[:, 0]


class PoissonSource(SolutionProblem):
    """Δu = f = ¼ Σ over k ≤ 4 of (−1)^(k+1) 2k sin kπx sin kπy on (0, 1)², u = 0 on the boundary.

    u = −¼ Σ (−1)^(k+1)/(kπ²) sin kπx sin kπy. It is below 0.015, which a soft boundary condition would not see: the
    network is multiplied by x(1 − x)y(1 − y) instead. The loss is mean r² over mean f².
    """

    title = "Poisson's equation with four modes: Δu = ¼ Σ ±2k sin kπx sin kπy, k ≤ 4 (Markidis, 2021)"
    data = "512 points inside, fixed"
    caution = "Markidis (arXiv 2103.09655) gives no figure of this error; networks of re-implementations differ."
    budget = 5000
    scale = 1.875
    domain = Box((0.0, 0.0), (1.0, 1.0))

    def __init__(self, name: str = "pinn-source", small: bool = False) -> None:
        super().__init__()
        self.name = name
        self.network, self.points = Dense((2, 32, 32, 1)), 512
        if small:
            self.network, self.points, self.fresh, self.budget = Dense((2, 16, 16, 1)), 64, True, 1000
            self.data = "64 points inside, drawn anew for every gradient"

    def exact(self, x: Tensor) -> Tensor:
        return self._modes(x, lambda k: -1 / (4 * k * math.pi**2))

    def source(self, x: Tensor) -> Tensor:
        """Return f ``[…, 1]`` at points ``[…, 2]``."""
        return self._modes(x, lambda k: k / 2)

    def field(self, params: Params, at: Jet) -> Jet:
        return walls(at) * self.network(params, at)

    def draw(self, words: Words, split: str) -> Batch:
        return {"inside": self.domain.inside(words, self.points if split == "train" else HELD_OUT)}

    def terms(self, params: Params, batch: Batch) -> Sequence[Tensor]:
        _, laplacian = self.laplacian(params, batch["inside"])
        return (laplacian - self.source(batch["inside"])[:, 0],)

    @staticmethod
    def _modes(x: Tensor, size: Callable[[int], float]) -> Tensor:
        """Return Σ over k of (−1)^(k+1) size(k) sin kπx sin kπy."""
        modes = [(-1) ** (k + 1) * size(k) * (k * math.pi * x).sin().prod(dim=-1, keepdim=True) for k in range(1, 5)]
        return torch.stack(modes).sum(dim=0)
