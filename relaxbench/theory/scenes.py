"""The scenes of the theory: a landscape with its start, temperature and duration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import vmap

from relaxbench.errors import unknown
from relaxbench.problems import Problem
from relaxbench.problems.landscapes.landscape import Rugged1D
from relaxbench.problems.landscapes.quadratic import Quadratic
from relaxbench.problems.landscapes.wells import DoubleWell, GaussianWells
from relaxbench.theory.grid import Array, Function, Grid


@dataclass(frozen=True)
class Scene:
    """A landscape f with the parameters of a computation on it.

    Attributes:
        name: on the command line.
        make: f, as a problem of one or two parameters without noise.
        low, high, counts: the box, and grid points in each dimension.
        beta: inverse temperature.
        seconds: T.
        start: x(0), a point of the grid.
        steps: of the particles' Euler–Maruyama scheme.
        gammas: smoothing times.
        terminal: V, the loss at time T; None for f itself.
        terminal_title: formula of V.
        window: the drawn part of the box, low and high of each dimension.
    """

    name: str
    make: Callable[[], Problem]
    low: tuple[float, ...]
    high: tuple[float, ...]
    counts: tuple[int, ...]
    beta: float
    seconds: float
    start: tuple[float, ...]
    steps: int
    gammas: tuple[float, ...]
    window: tuple[tuple[float, float], ...]
    terminal: Function | None = None
    terminal_title: str = "f"

    @property
    def grid(self) -> Grid:
        """The box as a grid."""
        return Grid.box(self.low, self.high, self.counts)

    @property
    def loss(self) -> Function:
        """The loss as a function of points ``[M, n]``."""
        return values(self.make())

    @property
    def measured(self) -> Function:
        """The terminal loss as a function of points ``[M, n]``."""
        return self.terminal or self.loss


def values(problem: Problem) -> Function:
    """Return a problem's validation loss as a function of points ``[M, P]`` in float64."""
    batch = problem.split("validation", torch.device("cpu"))

    def loss(points: Array) -> Array:
        def one(x: torch.Tensor) -> torch.Tensor:
            return problem.loss.value(problem.outputs(problem.unflatten(x), batch, False), batch)

        return np.asarray(vmap(one)(torch.from_numpy(np.ascontiguousarray(points))).numpy())

    return loss


SCENES = {
    scene.name: scene
    for scene in (
        Scene(
            "quadratic", lambda: Quadratic([0.8]), (-5.0,), (5.0,), (801,), 1.5, 1.2, (1.0,), 600,
            (0.3, 1.0, 3.0), ((-3.0, 3.0),), lambda x: np.asarray(x[:, 0] ** 2), "x²",
        ),
        Scene(
            "double-well", DoubleWell, (-2.5,), (2.5,), (501,), 4.0, 3.0, (1.0,), 600,
            (0.1, 0.3, 1.0), ((-1.8, 1.8),),
        ),
        Scene(
            "rugged-1d", Rugged1D, (-16.0,), (16.0,), (1601,), 1.0, 4.0, (6.0,), 800,
            (0.1, 0.5, 3.0), ((-10.0, 10.0),),
        ),
        Scene(
            "gaussian-wells", GaussianWells, (-2.2, -2.0), (2.6, 2.0), (121, 101), 4.0, 2.0, (1.0, 0.0), 1000,
            (0.03, 0.1, 0.3), ((-1.8, 2.2), (-1.4, 1.4)),
        ),
    )
}  # fmt: skip


def scene(name: str) -> Scene:
    """Return the scene of this name.

    Raises:
        UserError: if there is none; the message suggests the nearest name.
    """
    if name not in SCENES:
        raise unknown("landscape", name, SCENES)
    return SCENES[name]
