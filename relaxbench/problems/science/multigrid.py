"""Learn the prolongation of a two-grid method from random diffusion problems."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from relaxbench import random
from relaxbench.problems.epochs import EpochOrder, Orders
from relaxbench.problems.losses import Batch, loss
from relaxbench.problems.problem import Params, Problem
from relaxbench.problems.science.derivatives import RELU, Jet
from relaxbench.problems.science.networks import Dense
from relaxbench.problems.science.points import branches, normals, split_key
from relaxbench.problems.science.residual import KEYS, RANGES
from relaxbench.problems.science.two_grid import Grid, convergence_factors, corrected, smoother, stencils

EXAMPLES = {"train": 256, "validation": 128, "test": 128}
MODES = [[1, 0], [0, 1], [1, 1]]
"""Fourier modes of the block, in units of half a turn per block."""


class ProlongationEpochs(EpochOrder):
    """Mini-batches of stencils with their matrices, drawn without replacement."""

    def __init__(
        self,
        train: Batch,
        batch_size: int,
        seeds: Sequence[int],
        first: Sequence[int],
        steps: int,
        orders: Orders,
    ) -> None:
        stencil = train["stencil"]
        super().__init__(len(stencil), batch_size, seeds, first, steps, orders, stencil.device)
        self.train = train

    def batch(self, number: Tensor) -> Batch:
        """Return the mini-batches with these numbers, int64 ``[K, 1]``."""
        rows = self.rows(number)
        return {name: value[rows] for name, value in self.train.items()}


class Prolongation(Problem):
    """min over w of the mean of ‖C(P_w)‖²_F, the iteration matrix of a two-grid cycle, over random diffusions.

    Greenfeld, Galun, Kimmel, Yavneh & Basri (2019), arXiv 1902.10248, who take the largest norm over all modes instead
    of the norm of one drawn mode per example, and so no least squares. A network maps the stencils at a coarse node and
    its four nearest to four edge weights; rivals without training are black-box multigrid and bilinear interpolation.
    The conductivity of a cell is exp N(0, 1), on a periodic block of 8 × 8 nodes.
    """

    title = "learned prolongation of a two-grid method for −∇·(g∇u), g random (Greenfeld et al., 2019)"
    data = f"{EXAMPLES['train']} drawn diffusion problems, {EXAMPLES['validation']} and {EXAMPLES['test']} held out"
    metric, unit, metric_scale = "mean convergence factor", "", 1.0
    published = ""
    caution = "Without training, the test metric is 0.074 by black-box multigrid and 0.35 by bilinear interpolation."
    dtype = torch.float64
    kind = "equation"
    batch_size = 8
    train_examples = EXAMPLES["train"]
    worst, worst_metric, margin = 1e6, 1.0, 0.001
    fixed: Mapping[str, float] = {"weight_decay": 0.0, "decoupled_decay": 0.0}

    def __init__(self, name: str = "multigrid-prolongation", budget: int = 2000) -> None:
        self.name, self.budget = name, budget
        self.loss, self.space = loss("least-squares"), {**RANGES}
        self.grid, self.network = Grid(8), Dense((45, 32, 32, 4), RELU)
        self._splits: dict[tuple[str, torch.device], Batch] = {}
        self._orders: Orders = {}

    def layout(self) -> list[tuple[str, torch.Size]]:
        return self.network.layout()

    def init(self, seed: int) -> Tensor:
        return self.network.init(seed)

    def split(self, name: str, device: torch.device) -> Batch:
        if (name, device) not in self._splits:
            batch = self._examples(name)
            self._splits[name, device] = {key: value.to(device) for key, value in batch.items()}
        return self._splits[name, device]

    def sampler(
        self, seeds: Sequence[int], first: Sequence[int], steps: int, device: torch.device
    ) -> ProlongationEpochs:
        return ProlongationEpochs(self.split("train", device), self.batch_size, seeds, first, steps, self._orders)

    def outputs(self, params: Params, batch: Batch, training: bool) -> Tensor:
        """Return real and imaginary parts of C, ``[B, 2 · 64²]``."""
        edges = self.grid.normalized(self.network(params, Jet(self.grid.features(batch["stencil"]))).value)
        return torch.view_as_real(self.iteration(edges, batch)).flatten(1)

    def iteration(self, edges: Tensor, batch: Batch) -> Tensor:
        """Return C ``[B, 64, 64]`` for edge weights ``[B, 4, 4, 4]``, see `two_grid`."""
        weights = self.grid.weights(batch["stencil"], edges)
        matrix, smooth = (torch.view_as_complex(batch[name]) for name in ("matrix", "smooth"))
        return corrected(self.grid.prolongation(weights, batch["angle"]), matrix, smooth)

    def score(self, outputs: Tensor, batch: Batch) -> float:
        """Return the mean convergence factor of a split; 1, where the error does not shrink, at most."""
        side = self.grid.size**2
        factors = convergence_factors(torch.view_as_complex(outputs.view(-1, side, side, 2)))
        mean = float(factors.mean())
        return min(mean, self.worst_metric) if math.isfinite(mean) else self.worst_metric

    def _examples(self, split: str) -> Batch:
        """Draw a split, a function of its name: stencils, angles, and as real pairs A(θ) and S²."""
        count, size = EXAMPLES[split], self.grid.size
        cells, modes = branches(split_key(KEYS[split]))
        conductivity = normals(cells, count * size * size).view(count, size, size).exp()
        mode = (random.bits(modes, torch.arange(count)) % len(MODES)).flatten()
        angle = torch.tensor(MODES, dtype=torch.float64)[mode] * math.pi / size
        stencil = stencils(conductivity)
        matrix = self.grid.matrix(stencil, angle)
        sweep = smoother(matrix)
        pairs = {"matrix": matrix, "smooth": sweep @ sweep}
        return {"stencil": stencil, "angle": angle, **{n: torch.view_as_real(v) for n, v in pairs.items()}}
