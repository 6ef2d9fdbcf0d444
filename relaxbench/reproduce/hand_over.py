"""A network's solution handed over to Gauss–Seidel: how many sweeps does its low-frequency part save?

Gauss–Seidel reduces the rough part of an error in a few sweeps and the smooth part by cos²(πh) per sweep, so it needs
thousands on a fine grid; a network finds the smooth part first (Markidis, 2021, arXiv 2103.09655). Conjugate gradients
are no measure of this here: the right side is a sum of four eigenvectors, so that they end in four steps from zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import SuperLU, splu

from relaxbench.problems.science.derivatives import Jet
from relaxbench.problems.science.poisson import PoissonSource
from relaxbench.reproduce.science import trained
from relaxbench.space import Value

SIDE = 63
"""Nodes of the grid along an axis, without the boundary."""
WITHIN = 2e-3
"""Relative error of the discrete solution at which the sweeps end."""
MOST = 20_000
STARTS: Sequence[tuple[str, Mapping[str, Value], int]] = (
    ("adamw", {"adam_lr": 0.01}, 300),
    ("adamw", {"adam_lr": 0.01}, 2000),
    ("lbfgs", {}, 2000),
)
"""Methods with their setting and the gradients of a run."""


@dataclass(frozen=True)
class HandOver:
    """Sweeps from one start.

    Attributes:
        start: zero, or the method with its gradients.
        errors: relative errors at the start, one per run.
        sweeps: of each run until the error is at most `WITHIN`.
    """

    start: str
    errors: Sequence[float]
    sweeps: Sequence[int]


def nodes() -> torch.Tensor:
    """Return the inner nodes of the grid, ``[SIDE², 2]``."""
    at = torch.arange(1, SIDE + 1, dtype=torch.float64) / (SIDE + 1)
    return torch.cartesian_prod(at, at)


@cache
def _system() -> tuple[sparse.csc_matrix, SuperLU, NDArray[np.float64], NDArray[np.float64]]:
    """The five-point Laplacian A times h², a solver with its lower triangle, the right side b, and A⁻¹ b."""
    line = sparse.diags([1.0, -2.0, 1.0], [-1, 0, 1], shape=(SIDE, SIDE))
    one = sparse.identity(SIDE)
    matrix = (sparse.kron(line, one) + sparse.kron(one, line)).tocsc()
    lower = splu(sparse.tril(matrix).tocsc(), permc_spec="NATURAL", options={"SymmetricMode": True})
    right = PoissonSource().source(nodes())[:, 0].numpy() / (SIDE + 1) ** 2
    return matrix, lower, right, splu(matrix).solve(right)


def sweeps(start: NDArray[np.float64]) -> tuple[float, int]:
    """Return the relative error of a start ``[SIDE²]``, and the sweeps until it is at most `WITHIN`."""
    matrix, lower, right, exact = _system()
    size, u, count = np.linalg.norm(exact), start.copy(), 0
    first = float(np.linalg.norm(u - exact) / size)
    while np.linalg.norm(u - exact) > WITHIN * size and count < MOST:
        u += lower.solve(right - matrix @ u)
        count += 1
    return first, count


def hand_over(runs: int) -> Iterator[HandOver]:
    """Train every start on `pinn-source`, and yield its sweeps; that from zero comes first."""
    error, count = sweeps(np.zeros(SIDE**2))
    yield HandOver("zero", [error], [count])
    task = PoissonSource()
    for method, params, budget in STARTS:
        found = []
        for outcome in trained(task, method, params, budget, runs):
            values = task.field(task.unflatten(outcome.weights), Jet(nodes())).value[:, 0]
            found.append(sweeps(values.numpy()))
        yield HandOver(f"{method}, {budget:,} gradients", [one for one, _ in found], [two for _, two in found])
