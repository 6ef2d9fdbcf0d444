"""The problems of the CurveBall table as least squares for scipy: residuals, Jacobians, and when a run arrives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from relaxbench.problems import Problem
from relaxbench.problems.landscapes.landscape import Rosenbrock
from relaxbench.problems.landscapes.linear_net import HIDDEN, INPUTS, OUTPUTS, SAMPLES, LinearNet

Array = NDArray[np.float64]
TOLERANCE = 1e-4
"""A run arrives at its first observed loss below this."""


class LeastSquares:
    """Residuals for scipy that record when the observed loss is below `TOLERANCE`.

    Args:
        start: the first point.
        model: from a point to residuals and their Jacobian.
        draw: draws the weight of the first residual for every evaluation; None for a weight of one.
    """

    def __init__(
        self, start: Array, model: Callable[[Array, float], tuple[Array, Array]], draw: Callable[[], float] | None
    ) -> None:
        self.start, self._model, self._draw = start, model, draw
        self._weight, self.evaluations = 1.0, 0
        self.arrived: list[int] = []

    @classmethod
    def of(cls, problem: Problem, seed: int) -> LeastSquares:
        """Return a problem as least squares, with the start that our rules have.

        Args:
            problem: a `Rosenbrock` or `LinearNet`.
            seed: of the start and of the draws.
        """
        start = problem.init(seed).double().numpy()
        if isinstance(problem, LinearNet):
            return cls(start, _net(problem), None)
        assert isinstance(problem, Rosenbrock)
        low, high = problem.low, problem.high
        draws = np.random.default_rng(seed)
        return cls(start, _rosenbrock, None if low == high else lambda: float(draws.uniform(low, high)))

    @property
    def exact(self) -> bool:
        """Whether the weight is constant."""
        return self._draw is None

    def residual(self, w: Array) -> Array:
        """Return the residuals on a new draw."""
        self._weight = self._draw() if self._draw else 1.0
        residual, _ = self._model(w, self._weight)
        self.evaluations += 1
        if residual @ residual < TOLERANCE:
            self.arrived.append(self.evaluations)
        return residual

    def jacobian(self, w: Array) -> Array:
        """Return the Jacobian on the draw of the last residual."""
        return self._model(w, self._weight)[1]

    def value(self, w: Array) -> tuple[float, Array]:
        """Return the sum of squares and its gradient, on a new draw."""
        residual = self.residual(w)
        return float(residual @ residual), 2 * self.jacobian(w).T @ residual


def _rosenbrock(w: Array, weight: float) -> tuple[Array, Array]:
    scale = 10 * np.sqrt(weight)
    residual = np.array([scale * (w[1] - w[0] ** 2), 1 - w[0]])
    return residual, np.array([[-2 * scale * w[0], scale], [-1.0, 0.0]])


def _net(problem: LinearNet) -> Callable[[Array, float], tuple[Array, Array]]:
    """Mean over samples of |W2 W1 x − y|².

    The samples enter by the R of their QR factorization, which preserves all norms. MINPACK needs at least as many
    residuals as parameters, so zeros are appended.
    """
    data = {name: value.double().numpy() for name, value in problem.split("train", torch.device("cpu")).items()}
    R = np.linalg.qr(data["x"])[1] / np.sqrt(SAMPLES)
    target = R @ np.linalg.lstsq(data["x"], data["y"], rcond=None)[0]
    cut, size = HIDDEN * INPUTS, problem.size

    def model(w: Array, _: float) -> tuple[Array, Array]:
        w1, w2 = w[:cut].reshape(HIDDEN, INPUTS), w[cut:].reshape(OUTPUTS, HIDDEN)
        hidden = R @ w1.T
        residual, jacobian = np.zeros(size), np.zeros((size, size))
        rows = INPUTS * OUTPUTS
        residual[:rows] = (hidden @ w2.T - target).ravel()
        jacobian[:rows, :cut] = np.einsum("oh,ni->nohi", w2, R).reshape(rows, cut)
        jacobian[:rows, cut:] = np.einsum("op,nh->noph", np.eye(OUTPUTS), hidden).reshape(rows, size - cut)
        return residual, jacobian

    return model
