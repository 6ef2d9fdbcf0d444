"""Quadratic functions with a given spectrum, with or without gradient noise of known covariance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from relaxbench import random
from relaxbench.problems.landscapes.landscape import Landscape
from relaxbench.problems.losses import Batch, loss
from relaxbench.problems.problem import Params


class NormalDraws:
    """Mini-batches of n independent normal numbers with mean 0.

    Args:
        seeds: K seeds, one per member.
        n: numbers per mini-batch.
        scale: their standard deviation.
        device: where the numbers are needed.
    """

    def __init__(self, seeds: Sequence[int], n: int, scale: float, device: torch.device) -> None:
        self.seeds = torch.tensor(list(seeds))[:, None].to(device)
        self.n, self.scale = n, scale

    def batch(self, number: Tensor) -> Batch:
        """Return ``{"draw": [K, n]}`` for the mini-batches with these numbers, int64 ``[K, 1]``."""
        if self.scale == 0:
            return {"draw": torch.zeros(len(number), self.n, device=number.device)}
        return {"draw": self.scale * random.normal(random.key(self.seeds, random.DATA, number), self.n)}


class Quadratic(Landscape):
    """f(x) = ½ xᵀA x with A = Q diag(λ) Qᵀ, from x ~ N(0, I); the noise of a gradient has covariance σ²A.

    As least squares: outputs √(λ/2) (Qᵀx) + σ ξ/√2 with ξ ~ N(0, I) drawn anew for every gradient. With noise it is the
    noisy quadratic model of Zhang et al., arXiv 1907.04164.

    Args:
        spectrum: n eigenvalues λ ≥ 0 of A.
        noise: σ ≥ 0.
        name: as in study files.
        tolerance: the loss to reach.
        budget: gradients per trial.

    Raises:
        ValueError: if an eigenvalue or the noise is negative or not finite.
    """

    worst = 1e4
    ranges = {"gamma_start": (1e-2, 1e3), "gamma_end": (1e-2, 1e2)}

    def __init__(
        self,
        spectrum: Sequence[float],
        noise: float = 0.0,
        name: str = "quadratic",
        tolerance: float = 1e-4,
        budget: int = 2000,
    ) -> None:
        if not spectrum or any(not 0 <= value < math.inf for value in spectrum):
            raise ValueError(f"spectrum = {list(spectrum)}: expected eigenvalues that are finite and not negative")
        if not 0 <= noise < math.inf:
            raise ValueError(f"noise = {noise}: expected a finite number that is not negative")
        self.budget, self.margin, self.tolerance = budget, budget / 20, tolerance
        super().__init__()
        self.name, self.noise, self.loss = name, noise, loss("least-squares")
        n, low, high = len(spectrum), min(spectrum), max(spectrum)
        noise_text = f", gradient noise {noise:g}" if noise else ""
        shape = (
            f"a quadratic in {n} dimensions, eigenvalues {low:g} to {high:g}" if n > 1 else f"a parabola, {low:g} x²/2"
        )
        self.title = shape + noise_text
        words = random.key(torch.tensor([0]), random.DATA, torch.tensor([0]))
        basis = torch.linalg.qr(random.normal(words, n * n, torch.float64).view(n, n)).Q
        root = (torch.tensor(list(spectrum), dtype=torch.float64) / 2).sqrt()
        self.root: Tensor = (root[:, None] * basis.T).float()  # √(λ/2) Qᵀ

    @property
    def matrix(self) -> Tensor:
        """A, ``[n, n]``."""
        matrix: Tensor = 2 * self.root.T @ self.root
        return matrix

    def layout(self) -> list[tuple[str, torch.Size]]:
        return [("x", torch.Size([len(self.root)]))]

    def init(self, seed: int) -> Tensor:
        words = random.key(torch.tensor([seed]), random.INIT, torch.tensor([0]))
        return random.normal(words, len(self.root)).flatten()

    def sampler(self, seeds: Sequence[int], first: Sequence[int], steps: int, device: torch.device) -> NormalDraws:
        return NormalDraws(seeds, len(self.root), self.noise / math.sqrt(2), device)

    def outputs(self, params: Params, batch: Batch, training: bool) -> Tensor:
        x = params["x"]
        exact: Tensor = (self.root.to(x) @ x[..., None])[..., 0]
        return exact + batch["draw"].to(x) if training else exact
