"""The posterior of a stochastic differential equation: a neural drift steers its paths to the data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from relaxbench.problems.losses import Batch, loss
from relaxbench.problems.problem import Params, Problem
from relaxbench.problems.samplers import FreshPoints, Words
from relaxbench.problems.science.derivatives import Activation, Jet
from relaxbench.problems.science.networks import Dense
from relaxbench.problems.science.points import normals, split_key
from relaxbench.problems.science.residual import KEYS, RANGES

TIME, DECAY, NOISE = 3.0, 0.1, math.sqrt(2.0)
"""T, and the prior dz = −0.1 z dt + √2 dW."""
DATA, WIDTH = (5.0, -5.0), 0.25
"""Observations of z(T), and the scale of their Cauchy errors."""
PATHS = {"train": 256, "validation": 512, "test": 8192}
SMALL_PATHS = {"train": 256, "validation": 256, "test": 2048}
REACH, GRID = 60.0, 400_001
"""Half the interval of the quadrature, and its points."""


def _swish_slopes(z: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    s = torch.sigmoid(z)
    first = s + value * (1 - s)
    return first, s * (1 - s) * (2 + z * (1 - 2 * s))


SWISH = Activation("swish", torch.nn.functional.silu, _swish_slopes)


class PosteriorPaths(Problem):
    """min over w of E[½ ∫ u_w(z, t)² dt − log p(data | z(T))], dz = (−0.1 z + √2 u_w) dt + √2 dW, z(0) = 0.

    Xu, Chen, Li & Duvenaud (2022), arXiv 2102.06559, a Bayesian neural network of infinite depth in one dimension. By
    Girsanov's theorem the minimum is −log p(data), which a quadrature gives, and the loss less that minimum is the
    divergence from the posterior over paths: the metric, on fixed paths. Every gradient has 32 fresh paths, by Euler's
    method. The original code weights the integral by 0.2/T, so its loss is no bound.

    Args:
        name: as in study files.
        small: a narrower network on fewer steps in time.
    """

    title = "posterior of a neural stochastic differential equation in one dimension (Xu et al., 2022)"
    metric, unit, metric_scale = "gap to the log evidence", "nats", 1.0
    dtype = torch.float64
    kind = "equation"
    batch_size = 32
    worst, worst_metric, margin = 1e4, 100.0, 0.02
    fixed: Mapping[str, float] = {"weight_decay": 0.0, "decoupled_decay": 0.0}

    def __init__(self, name: str = "sde-posterior", small: bool = False) -> None:
        self.name, self.loss, self.space = name, loss("none"), {**RANGES}
        self.network, self.steps, self.budget, self.paths = Dense((2, 32, 32, 1), SWISH), 50, 1000, PATHS
        if small:
            self.network, self.steps, self.budget, self.paths = Dense((2, 16, 16, 1), SWISH), 20, 300, SMALL_PATHS
        self.data = (
            f"{self.batch_size} drawn paths of {self.steps} steps per gradient, {self.paths['test']:,} fixed ones for "
            "the test"
        )
        self.evidence = evidence(self.steps)
        self._splits: dict[tuple[str, torch.device], Batch] = {}

    def layout(self) -> list[tuple[str, torch.Size]]:
        return self.network.layout()

    def init(self, seed: int) -> Tensor:
        """Return initial parameters with a last layer of a tenth of the usual size: the start is near the prior."""
        last = self.network.sizes[-2] * self.network.sizes[-1] + self.network.sizes[-1]
        x = self.network.init(seed)
        return torch.cat([x[:-last], 0.1 * x[-last:]])

    def split(self, name: str, device: torch.device) -> Batch:
        if (name, device) not in self._splits:
            paths = self._draw(split_key(KEYS[name]), self.paths[name])
            self._splits[name, device] = {key: value[0].to(device) for key, value in paths.items()}
        return self._splits[name, device]

    def sampler(self, seeds: Sequence[int], first: Sequence[int], steps: int, device: torch.device) -> FreshPoints:
        return FreshPoints(seeds, lambda words: self._draw(words, self.batch_size), device)

    def outputs(self, params: Params, batch: Batch, training: bool) -> Tensor:
        """Return one estimate of the loss per path, ``[B, 1]``."""
        dt = TIME / self.steps
        z = torch.zeros_like(batch["noise"][:, 0])
        effort = torch.zeros_like(z)
        for step, xi in enumerate(batch["noise"].unbind(1)):
            u = self.drift(params, z, step * dt)
            z = z + (NOISE * u - DECAY * z) * dt + NOISE * math.sqrt(dt) * xi
            effort = effort + 0.5 * dt * u * u
        return (effort - log_likelihood(z))[:, None]

    def drift(self, params: Params, z: Tensor, t: float) -> Tensor:
        """Return u_w(z, t) ``[B]`` of one member: what the network adds to the prior's drift, over √2."""
        at = torch.stack([z / 3, torch.full_like(z, t / TIME)], dim=-1)
        return self.network(params, Jet(at)).value[:, 0]

    def score(self, outputs: Tensor, batch: Batch) -> float:
        """Return the gap between the log evidence and its bound on these paths; it is 0 for the posterior itself."""
        gap = self.evidence + float(outputs.mean())
        return min(gap, self.worst_metric) if math.isfinite(gap) else self.worst_metric

    def _draw(self, words: Words, paths: int) -> Batch:
        return {"noise": normals(words, paths * self.steps).view(-1, paths, self.steps)}


def log_likelihood(z: Tensor) -> Tensor:
    """Return log p(data | z(T) = z)."""
    each = [-torch.log1p(((x - z) / WIDTH) ** 2) - math.log(math.pi * WIDTH) for x in DATA]
    return torch.stack(each).sum(dim=0)


@cache
def evidence(steps: int) -> float:
    """Return log p(data) for paths of so many Euler steps, on which z(T) is normal: by the trapezoidal rule."""
    dt = TIME / steps
    keep = (1 - DECAY * dt) ** 2
    variance = NOISE**2 * dt * (1 - keep**steps) / (1 - keep)
    z = torch.linspace(-REACH, REACH, GRID, dtype=torch.float64)
    log_prior = -z * z / (2 * variance) - 0.5 * math.log(2 * math.pi * variance)
    density = torch.exp(log_prior + log_likelihood(z))
    return math.log(float(np.trapezoid(density.numpy(), z.numpy())))
