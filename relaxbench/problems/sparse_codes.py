"""LISTA: an iteration for sparse codes whose matrices are learned, a network unrolled from an algorithm."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor, nn

from relaxbench import random
from relaxbench.problems.supervised import SupervisedProblem

EXAMPLES = {"train": 4096, "validation": 1024, "test": 4096}
DENSITY, NOISE, PENALTY = 0.1, 0.02, 0.05
"""The share of a code that is not zero, the noise of a measurement, and λ of the iteration at the start."""


def _draws(part: int, count: int, size: int) -> Tensor:
    """Return standard normal numbers ``[count, size]``, functions of the part alone."""
    words = random.key(torch.tensor([0]), random.DATA, torch.tensor([40 + part]))
    return random.normal(words, count * size, torch.float64).view(count, size)


@cache
def dictionary(measured: int, size: int) -> Tensor:
    """Return A ``[measured, size]``, float64, normal with columns of length 1."""
    a = _draws(0, measured, size)
    unit: Tensor = a / a.norm(dim=0)
    return unit


@cache
def codes(measured: int, size: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Return measurements A z + noise ``[N, measured]`` and codes z ``[N, size]``, normal where they are not zero."""
    a, splits = dictionary(measured, size), {}
    for part, (split, count) in enumerate(EXAMPLES.items()):
        values, chance, noise = (_draws(3 * part + kind, count, n) for kind, n in ((1, size), (2, size), (3, measured)))
        level = math.sqrt(2) * float(torch.erfinv(torch.tensor(1 - 2 * DENSITY, dtype=torch.float64)))
        z = torch.where(chance > level, values, torch.zeros_like(values))
        splits[split] = ((z @ a.T + NOISE * noise).float(), z.float())
    return splits


class Lista(nn.Module):
    """z ← s_θ(W_k y + S_k z) for K layers, with s_θ(v) = sign(v) max(|v| − θ, 0), and W, S, θ of their own.

    It starts as ISTA: W = Aᵀ/L, S = 1 − AᵀA/L, θ = λ/L, with L the largest eigenvalue of AᵀA; seeds perturb W by 1 %.
    """

    def __init__(self, measured: int, size: int, layers: int) -> None:
        super().__init__()
        a = dictionary(measured, size).float()
        step = 1 / float(torch.linalg.matrix_norm(a, 2)) ** 2
        enter, again = step * a.T, torch.eye(size) - step * a.T @ a
        self.enter = nn.ParameterList(enter * (1 + 0.01 * torch.randn_like(enter)) for _ in range(layers))
        self.again = nn.ParameterList(again.clone() for _ in range(layers - 1))
        self.threshold = nn.Parameter(torch.full((layers,), PENALTY * step))

    def forward(self, y: Tensor) -> Tensor:
        """Return codes ``[B, size]`` of measurements ``[B, measured]``."""
        z = shrunk(y @ self.enter[0].T, self.threshold[0])
        for k, again in enumerate(self.again, 1):
            z = shrunk(y @ self.enter[k].T + z @ again.T, self.threshold[k])
        return z


def shrunk(v: Tensor, threshold: Tensor) -> Tensor:
    """Return s_θ(v)."""
    return torch.sign(v) * torch.relu(v.abs() - threshold)


def error(outputs: Tensor, codes: Tensor) -> float:
    """Return the relative L2 error of all codes."""
    return float((outputs - codes).norm() / codes.norm())


def lista(
    name: str = "lista", measured: int = 25, size: int = 50, layers: int = 10, budget: int = 1000
) -> SupervisedProblem:
    """Make the learned iteration, by least squares.

    Args:
        name: as in study files.
        measured: numbers per measurement.
        size: numbers per code.
        layers: K.
        budget: gradients per trial.
    """
    return SupervisedProblem(
        name,
        lambda: Lista(measured, size, layers),
        lambda: codes(measured, size),
        loss="least-squares",
        metric=("relative L2 error", error),
        worst_metric=10.0,
        batch_size=64,
        budget=budget,
        worst=1e4,
        margin=0.01,
        kind="fully-connected",
        title=f"LISTA: {layers} learned iterations for sparse codes (Gregor & LeCun, ICML 2010)",
        source="drawn sparse codes and their noisy measurements",
        caution="Doubtful: a rival of FIRENETs (Colbrook, Antun & Hansen, PNAS 2022), which are not trained.",
    )
