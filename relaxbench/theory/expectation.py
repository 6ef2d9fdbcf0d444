"""Improvement in expectation: E V(x_csgd(T)) ≤ E V(x_sgd(T)) − ½ E∫|α|² ds, computed twice.

Once on a grid, exact up to discretization, and once with particles, which take only the control from the grid.
Source: Chaudhari et al., arXiv 1704.04932, section 5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from relaxbench.theory.diffusion import Control, control
from relaxbench.theory.grid import Array
from relaxbench.theory.particles import Field, Particles
from relaxbench.theory.scenes import Scene
from relaxbench.training.ensemble import Ensemble
from relaxbench.training.oracle import Oracle
from relaxbench.util.seeds import derive

NORMAL = 1.959963984540054
"""Standard errors in half a 95 % interval."""


@dataclass(frozen=True)
class Estimate:
    """A mean over particles.

    Attributes:
        mean: the mean.
        error: its standard error.
    """

    mean: float
    error: float

    @classmethod
    def of(cls, values: Array) -> Estimate:
        """Estimate the mean from one value per particle."""
        return cls(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))

    @property
    def half(self) -> float:
        """Half the width of a 95 % interval."""
        return NORMAL * self.error


@dataclass(frozen=True)
class Expectation:
    """The theorem's inequality on one landscape.

    Attributes:
        scene: the landscape.
        exact: the solution on the grid.
        plain: E V of SGD, by particles.
        cost: ½ E∫|α|², by particles.
        controlled: E V of controlled SGD, by particles.
        bound: E V(SGD) − ½ E∫|α|².
        slack: `bound` − `controlled`. Both kinds of particles share their noise, which makes its error small.
        at_end: the particles at T, plain and controlled, ``[K, n]`` each.
        gradients: number of gradients that were evaluated.
    """

    scene: Scene
    exact: Control
    plain: Estimate
    cost: Estimate
    controlled: Estimate
    bound: Estimate
    slack: Estimate
    at_end: tuple[Array, Array]
    gradients: float

    @property
    def holds(self) -> bool | None:
        """Whether the inequality holds by the particles; None if the error bars leave it open."""
        if abs(self.slack.mean) <= self.slack.half:
            return None
        return self.slack.mean > 0


def expect(scene: Scene, particles: int = 100_000, seed: int = 0, device: torch.device | str = "cpu") -> Expectation:
    """Solve for the control of a scene, then simulate particles with and without it.

    Args:
        scene: the landscape.
        particles: K of each kind, at least 2.
        seed: of the noise.
        device: of the particles.

    Raises:
        ValueError: for fewer than two particles.
    """
    if particles < 2:
        raise ValueError(f"particles = {particles}: expected at least 2")
    grid = scene.grid
    exact = control(
        scene.loss(grid.points), scene.measured(grid.points), grid, scene.beta, scene.seconds, grid.nearest(scene.start)
    )
    first = derive(seed, "theory", scene.name) >> 1  # with the particle's number below 63 bits
    seeds = range(first, first + particles)
    start = torch.tensor([scene.start], dtype=torch.float32, device=device).expand(particles, -1).clone()
    settings = {"time_step": scene.seconds / scene.steps, "beta": scene.beta}
    ends, costs, gradients = [], [], 0.0
    for field in (None, Field(exact, device)):
        ensemble = Ensemble(Oracle(scene.make()), Particles(field), start, seeds, scene.steps, settings)
        for _ in range(scene.steps):
            ensemble.step()
        ends.append(ensemble.state["x"].double().cpu().numpy())
        costs.append(ensemble.state["cost"].double().cpu().numpy()[:, 0])
        gradients += ensemble.gradients
    plain, controlled = (scene.measured(x) for x in ends)
    return Expectation(
        scene=scene,
        exact=exact,
        plain=Estimate.of(plain),
        cost=Estimate.of(costs[1]),
        controlled=Estimate.of(controlled),
        bound=Estimate.of(plain - costs[1]),
        slack=Estimate.of(plain - costs[1] - controlled),
        at_end=(ends[0], ends[1]),
        gradients=gradients,
    )
