"""How flat the loss is around a solution: the largest Hessian eigenvalues, the trace, and the local entropy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from relaxbench.problems import Problem
from relaxbench.training.flatness.hessian import Hessian
from relaxbench.training.flatness.spectrum import Spectrum, spectrum

LARGEST = 5
"""How many of the largest eigenvalues."""
GAMMAS = (1e-4, 1e-3, 1e-2, 1e-1)
"""The γ of the local entropies."""
MOST = 20_000_000
"""Parameters: of more, the vectors of the Krylov space alone would take gigabytes."""


class FlatnessError(Exception):
    """Flatness could not be measured; the message says why, in one line."""


@dataclass(frozen=True)
class Flatness:
    """Measured on the training loss f of the deployed model, see `hessian.Hessian`.

    Attributes:
        top: the `LARGEST` eigenvalues of ∇²f, descending (all of them, where there are fewer parameters).
        trace: of ∇²f.
        trace_error: its standard error, from the random vectors of its estimate; 0 where it is exact.
        local_entropy: γ → F_γ(x), or None where I + γ∇²f is not positive definite.
        passes: what it has cost, in forward passes of one example.
    """

    top: list[float]
    trace: float
    trace_error: float
    local_entropy: dict[float, float | None]
    passes: int

    def measures(self) -> dict[str, Any]:
        """As stored with a trial."""
        return {
            "hessian_top": self.top,
            "hessian_trace": self.trace,
            "hessian_trace_error": self.trace_error,
            "local_entropy": {f"{gamma:g}": value for gamma, value in self.local_entropy.items()},
        }


def flatness(problem: Problem, x: Tensor, seed: int) -> Flatness:
    """Flatness at x ``[P]``: 58 products with the Hessian, at one point alone, so that no neighbour matters.

    F_γ(x) = −log ∫ exp(−f(y) − |y − x|²/(2γ)) dy + (P/2) log 2πγ, the local entropy of Entropy-SGD (arXiv 1611.01838)
    less that of a constant: F_γ → f as γ → 0. It is taken in Laplace's approximation, which is exact where f is a
    quadratic over the √γ-neighbourhood of x:

        F_γ(x) = f − (γ/2) ∇fᵀ (I + γ∇²f)⁻¹ ∇f + ½ log det(I + γ∇²f).

    The integral exists there only while no eigenvalue is as low as −1/γ. Eigenvalues that were not seen can be lower
    than those that were, so a value is a statement on the directions that the Krylov space has found.

    Up to `spectrum.EXACT` parameters all of it is exact. Beyond, eigenvalues are Ritz values (no larger than the true
    ones), trace and determinant are estimates whose random vectors are a function of the seed. It is a measurement: its
    passes are no gradients of a method, and whoever stores it bills them in the ledger's measurement column.

    Raises:
        FlatnessError: if the model cannot be differentiated twice, has no training split, is larger than `MOST`, or
            something is not finite.
    """
    if problem.size > MOST:
        raise FlatnessError(f"{problem.size:,} parameters: at most {MOST:,} can be measured")
    try:
        hessian = Hessian(problem, x)
        seen = spectrum(hessian, hessian.gradient, seed)
    except Exception as error:  # whatever a model does when it is differentiated twice, its run is good
        reason = next(iter(str(error).splitlines()), "")[:200]
        raise FlatnessError(f"{type(error).__name__}: {reason}") from error
    trace, trace_error = seen.trace(lambda values: values)
    entropies = {gamma: _local_entropy(hessian.loss, seen, gamma) for gamma in GAMMAS}
    found = Flatness(seen.values.flip(0)[:LARGEST].tolist(), trace, trace_error, entropies, hessian.passes)
    numbers = [*found.top, trace, trace_error, *(value for value in entropies.values() if value is not None)]
    if not all(math.isfinite(number) for number in numbers):
        raise FlatnessError("the Hessian is not finite")
    return found


def _local_entropy(loss: float, seen: Spectrum, gamma: float) -> float | None:
    """F_γ in Laplace's approximation, or None where it does not exist."""
    if 1 + gamma * seen.least <= 0:
        return None
    pulled = gamma / 2 * seen.quadratic(lambda values: 1 / (1 + gamma * values))
    volume, _ = seen.trace(lambda values: torch.log1p(gamma * values))
    return loss - pulled + volume / 2
