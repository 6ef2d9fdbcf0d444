"""Functions with wells of known depth and width, to see in which one a method ends and whether it can leave one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from relaxbench import random
from relaxbench.problems.landscapes.landscape import Landscape, NumberedDraws
from relaxbench.problems.losses import Batch, loss
from relaxbench.problems.problem import Params


class DoubleWell(Landscape):
    """f(x) = (x² − 1)²/4 + c x − min, from a start in U[−1.5, 1.5]: with c > 0 the left well is the lower one.

    Args:
        tilt: c with |c| ≤ 0.38, so that both wells exist.

    Raises:
        ValueError: for a larger tilt.
    """

    name = "double-well"
    budget, worst, margin, tolerance = 400, 100.0, 20.0, 0.01
    ranges = {"sigma_start": (0.1, 3.0), "sigma_end": (1e-2, 1.0), "temperature": (1e-4, 1.0)}

    def __init__(self, tilt: float = 0.1) -> None:
        if not abs(tilt) <= 0.38:
            raise ValueError(f"tilt = {tilt}: expected at most 0.38 in size: beyond it one well is gone")
        super().__init__()
        self.tilt, self.loss = tilt, loss("none")
        self.title = f"two wells on the line, one of them {'lower' if tilt else 'as low as the other'}"
        stationary = np.roots([1.0, 0.0, -1.0, tilt]).real
        self.lowest = float(np.min((stationary**2 - 1) ** 2 / 4 + tilt * stationary))

    def layout(self) -> list[tuple[str, torch.Size]]:
        return [("x", torch.Size([1]))]

    def init(self, seed: int) -> Tensor:
        words = random.key(torch.tensor([seed]), random.INIT, torch.tensor([0]))
        return 3.0 * random.uniform(words, torch.tensor([0])) - 1.5

    def sampler(self, seeds: Sequence[int], first: Sequence[int], steps: int, device: torch.device) -> NumberedDraws:
        return NumberedDraws(seeds, 1.0, 1.0, device)

    def outputs(self, params: Params, batch: Batch, training: bool) -> Tensor:
        x = params["x"]
        return (x**2 - 1) ** 2 / 4 + self.tilt * x - self.lowest


class GaussianWells(Landscape):
    """f(x) = −(1/β) log Σ_k w_k exp(−β |x − m_k|²/2 s_k²): the local entropy of f has the same form, in any dimension.

    Smoothed for a time t, s_k² becomes s_k² + t and w_k becomes w_k (s_k²/(s_k² + t))^{n/2}: a narrow well is filled
    before a wide one. By default the narrow well in the plane is the lower one. The start is uniform in [−2, 2]ⁿ.

    Args:
        centres: m_k, K points of n coordinates.
        widths: s_k > 0.
        weights: w_k > 0.
        beta: β > 0.

    Raises:
        ValueError: for numbers that are not positive, or sequences of different lengths.
    """

    name = "gaussian-wells"
    budget, worst, margin, tolerance = 400, 100.0, 20.0, 0.01
    ranges = {
        "sigma_start": (0.1, 3.0),
        "sigma_end": (1e-2, 1.0),
        "temperature": (1e-4, 1.0),
        "lr": (1e-4, 0.1),
        "inner_lr": (1e-4, 0.1),
    }

    def __init__(
        self,
        centres: Sequence[Sequence[float]] = ((-1.0, 0.0), (1.0, 0.0)),
        widths: Sequence[float] = (0.2, 0.6),
        weights: Sequence[float] = (1.0, 0.5),
        beta: float = 4.0,
    ) -> None:
        if not len(centres) == len(widths) == len(weights) > 0:
            raise ValueError(
                f"{len(centres)} centres, {len(widths)} widths, {len(weights)} weights: expected as many of each"
            )
        if min(*widths, *weights, beta) <= 0:
            raise ValueError(f"widths = {widths}, weights = {weights}, beta = {beta}: expected positive numbers")
        super().__init__()
        self.loss = loss("none")
        self.centres = torch.tensor(centres, dtype=torch.float64)
        self.widths = torch.tensor(widths, dtype=torch.float64)
        self.weights = torch.tensor(weights, dtype=torch.float64)
        self.beta = beta
        self.title = f"{len(centres)} Gaussian wells in {self.centres.shape[1]} dimensions"

    def smoothed(self, t: float) -> GaussianWells:
        """Return the local entropy f_t at β, which is exact.

        Args:
            t: time ≥ 0 of the heat flow.
        """
        wider = self.widths**2 + t
        weights = self.weights * (self.widths**2 / wider) ** (self.centres.shape[1] / 2)
        return GaussianWells(self.centres.tolist(), wider.sqrt().tolist(), weights.tolist(), self.beta)

    def layout(self) -> list[tuple[str, torch.Size]]:
        return [("x", torch.Size([self.centres.shape[1]]))]

    def init(self, seed: int) -> Tensor:
        words = random.key(torch.tensor([seed]), random.INIT, torch.tensor([0]))
        return 4.0 * random.uniform(words, torch.arange(self.size)) - 2.0

    def sampler(self, seeds: Sequence[int], first: Sequence[int], steps: int, device: torch.device) -> NumberedDraws:
        return NumberedDraws(seeds, 1.0, 1.0, device)

    def outputs(self, params: Params, batch: Batch, training: bool) -> Tensor:
        x = params["x"]
        apart = (x[..., None, :] - self.centres.to(x)).square().sum(-1)
        exponent = self.weights.to(x).log() - self.beta * apart / (2 * self.widths.to(x) ** 2)
        return -torch.logsumexp(exponent, dim=-1, keepdim=True) / self.beta
