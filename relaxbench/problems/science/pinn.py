"""Physics-informed networks: the solution of a differential equation on a box is a network of its coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from relaxbench.problems.losses import Batch
from relaxbench.problems.problem import Params
from relaxbench.problems.samplers import Words
from relaxbench.problems.science.derivatives import Activation, Jet
from relaxbench.problems.science.points import Box
from relaxbench.problems.science.residual import ResidualProblem
from relaxbench.problems.solution import Solution, solution_on

HELD_OUT, HELD_OUT_BOUNDARY = 1024, 256
"""Points of the validation loss: in the interior, and of every term on the boundary."""
SOLUTION_POINTS = 4096
"""Points at which the solution's error is measured."""
AXES = ((1.0, 0.0), (0.0, 1.0))
"""Directions of both coordinates."""


_BUMP = Activation("z(1 − z)", lambda z: z * (1 - z), lambda z, value: (1 - 2 * z, torch.full_like(z, -2.0)))


def walls(at: Jet) -> Jet:
    """Return x(1 − x)y(1 − y) at coordinates ``[N, 2]`` of the unit square: zero on its boundary."""
    sides = at.apply(_BUMP)
    return sides.columns(0, 1) * sides.columns(1, 2)


class Network(Protocol):
    """A network on jets."""

    def layout(self) -> list[tuple[str, torch.Size]]:
        """Return names and shapes of the parameters."""
        ...

    def init(self, seed: int) -> Tensor:
        """Return initial parameters ``[P]``."""
        ...

    def __call__(self, params: Params, inputs: Jet) -> Jet:
        """Apply the network of one member."""
        ...


class SolutionProblem(ResidualProblem):
    """A network u(x) on a box, whose equation has an exact solution.

    Raissi, Perdikaris & Karniadakis (2019), J. Comput. Phys. 378. The metric is the relative L2 error of the network,
    √(Σ (u − u*)² / Σ u*²), at points that neither training nor selection has seen.

    Attributes:
        domain: the box.
        network: of its coordinates.
        quantity, coordinates: names of the first function and of the axes, for figures.
    """

    domain: Box
    network: Network
    quantity: str = "u"
    coordinates: Sequence[str] = "xy"

    def exact(self, x: Tensor) -> Tensor:
        """Return the exact solution ``[…, 1]`` at points ``[…, d]``."""
        raise NotImplementedError

    def field(self, params: Params, at: Jet) -> Jet:
        """Return one member's solution, ``[N, 1]``, with derivatives, at coordinates ``[N, d]``."""
        return self.network(params, at)

    def layout(self) -> list[tuple[str, torch.Size]]:
        return self.network.layout()

    def init(self, seed: int) -> Tensor:
        return self.network.init(seed)

    def further(self, words: Words) -> Batch:
        at = self.domain.inside(words, SOLUTION_POINTS)
        return {"at": at, "exact": self.exact(at)}

    def error(self, params: Params, batch: Batch) -> Tensor:
        away = self.field(params, Jet(batch["at"])).value - batch["exact"]
        relative: Tensor = away.norm() / batch["exact"].norm()
        return relative

    def solution(self, params: Params) -> Solution | None:
        def trained(x: Tensor) -> Tensor:
            return self.field(params, Jet(x)).value

        return solution_on(self.domain.low, self.domain.high, self.exact, trained, self.quantity, self.coordinates)

    def refuse_unsound(self, batch: Batch) -> None:
        for points in batch.values():
            if points.shape[-1] == self.domain.dimensions:
                self.domain.refuse_outside(self.name, points)

    def laplacian(self, params: Params, points: Tensor, weights: Sequence[float] = (1.0, 1.0)) -> tuple[Tensor, Tensor]:
        """Return u and Σ_i weight_i ∂²u/∂x_i² at points ``[N, 2]``, ``[N]`` each."""
        u = self.field(params, Jet.at(points, AXES, total=weights))
        assert u.second is not None
        return u.value[:, 0], u.second[0, :, 0]
