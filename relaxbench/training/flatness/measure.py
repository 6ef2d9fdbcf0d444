"""Measure how flat the loss is around a solution: largest Hessian eigenvalues, trace, local entropy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from relaxbench.problems import Problem
from relaxbench.training.flatness.hessian import GRADIENT, VECTOR, Hessian, keeps_graph
from relaxbench.training.flatness.spectrum import Spectrum, products, spectrum

LARGEST = 5
"""Number of largest eigenvalues."""
GAMMAS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Values of γ for the local entropy."""
MOST = 20_000_000
"""Maximum number of parameters; beyond, the vectors of the Krylov space would take gigabytes."""


class FlatnessError(Exception):
    """Raised if flatness cannot be measured; the message gives the reason in one line."""


@dataclass(frozen=True)
class Flatness:
    """Flatness of the training loss f of the deployed model, see `hessian.Hessian`.

    Attributes:
        top: the `LARGEST` eigenvalues of ∇²f, descending (fewer if there are fewer parameters).
        trace: of ∇²f.
        trace_error: its standard error over the random vectors of the estimate; 0 if it is exact.
        local_entropy: γ → F_γ(x), or None if I + γ∇²f is not positive definite.
        passes: cost, in forward passes of one example.
    """

    top: list[float]
    trace: float
    trace_error: float
    local_entropy: dict[float, float | None]
    passes: int

    def measures(self) -> dict[str, list[float] | float | dict[str, float | None]]:
        """Return the values as they are stored with a trial."""
        return {
            "hessian_top": self.top,
            "hessian_trace": self.trace,
            "hessian_trace_error": self.trace_error,
            "local_entropy": {f"{gamma:g}": value for gamma, value in self.local_entropy.items()},
        }


def flatness(problem: Problem, x: Tensor, seed: int, examples: int | None = None) -> Flatness:
    """Measure flatness at x ``[P]`` with 58 Hessian products. Other members have no influence.

    F_γ(x) = −log ∫ exp(−f(y) − |y − x|²/(2γ)) dy + (P/2) log 2πγ, the local entropy of Entropy-SGD (arXiv 1611.01838)
    minus that of the constant 0, so that F_γ → f as γ → 0. It is computed in Laplace's approximation, which is exact if
    f is quadratic in the √γ-neighbourhood of x:

        F_γ(x) = f − (γ/2) ∇fᵀ (I + γ∇²f)⁻¹ ∇f + ½ log det(I + γ∇²f).

    In this approximation the integral exists only if all eigenvalues are larger than −1/γ. Eigenvalues outside of the
    Krylov space may be smaller than those in it, so a value holds for the directions of that space.

    Up to `spectrum.EXACT` parameters all values are exact. Beyond, eigenvalues are Ritz values (no larger than the true
    ones), and trace and determinant are estimates whose random vectors are a function of the seed. Its passes are not
    gradients of the method: the caller bills them in the ledger's measurement column.

    Args:
        problem: the problem.
        x: the point.
        seed: of the random vectors.
        examples: of f; None for as many as a full measurement has.

    Raises:
        FlatnessError: if the model cannot be differentiated twice, has no training split, is larger than `MOST`, or
            if a value is not finite.
    """
    if problem.size > MOST:
        raise FlatnessError(f"{problem.size:,} parameters: at most {MOST:,} can be measured")
    try:
        hessian = Hessian(problem, x, examples)
        estimate = spectrum(hessian, hessian.gradient, seed)
    except Exception as error:  # a model that cannot be differentiated twice may raise any kind; its run remains valid
        reason = next(iter(str(error).splitlines()), "")[:200]
        raise FlatnessError(f"{type(error).__name__}: {reason}") from error
    trace, trace_error = estimate.trace(lambda values: values)
    entropies = {gamma: _local_entropy(hessian.loss, estimate, gamma) for gamma in GAMMAS}
    result = Flatness(estimate.values.flip(0)[:LARGEST].tolist(), trace, trace_error, entropies, hessian.passes)
    numbers = [*result.top, trace, trace_error, *(value for value in entropies.values() if value is not None)]
    if not all(math.isfinite(number) for number in numbers):
        raise FlatnessError("the Hessian is not finite")
    return result


def passes(problem: Problem, examples: int) -> int:
    """Return the cost of a measurement on some examples, in forward passes of one example."""
    vectors, calls = products(problem.size)
    gradients = 1 if keeps_graph(problem) else 1 + calls
    return problem.statistics_examples + examples * (GRADIENT * gradients + VECTOR * vectors)


def _local_entropy(loss: float, estimate: Spectrum, gamma: float) -> float | None:
    """F_γ in Laplace's approximation, or None if it does not exist."""
    if 1 + gamma * estimate.least <= 0:
        return None
    descent = gamma / 2 * estimate.quadratic(lambda values: 1 / (1 + gamma * values))
    volume, _ = estimate.trace(lambda values: torch.log1p(gamma * values))
    return loss - descent + volume / 2
