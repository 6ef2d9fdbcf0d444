"""The scientific problems by name; each has a small variant for two cores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from relaxbench.problems.problem import Problem
from relaxbench.problems.science.identification import HamiltonJacobi, Helmholtz, WaveLaw
from relaxbench.problems.science.multigrid import Prolongation
from relaxbench.problems.science.oscillation import Oscillation
from relaxbench.problems.science.oscillator import Oscillator
from relaxbench.problems.science.poisson import Poisson, PoissonSource
from relaxbench.problems.science.posterior_paths import PosteriorPaths
from relaxbench.problems.science.space_time import Convection, Reaction, Wave

_SIZES = {
    "pinn-poisson2d": Poisson,
    "pinn-source": PoissonSource,
    "pinn-convection": Convection,
    "pinn-reaction": Reaction,
    "pinn-wave": Wave,
    "pde-id-helmholtz": Helmholtz,
    "pde-id-wave": WaveLaw,
    "pde-id-hjb": HamiltonJacobi,
    "sde-posterior": PosteriorPaths,
}
_SMALL_OSCILLATION = {"k": 1, "width": 20, "bells": 4, "points": 128, "budget": 2000}


def _both(name: str, make: Callable[..., Problem]) -> dict[str, Callable[[], Problem]]:
    small = f"{name}-small"
    return {name: partial(make, name), small: partial(make, small, small=True)}


def _oscillation(name: str, kind: str) -> dict[str, Callable[[], Problem]]:
    small = f"{name}-small"
    return {
        name: partial(Oscillation, name, kind),
        small: partial(Oscillation, small, kind, **_SMALL_OSCILLATION),
    }


SCIENCE: Mapping[str, Callable[[], Problem]] = {
    **{entry: made for name, make in _SIZES.items() for entry, made in _both(name, make).items()},
    **_oscillation("pinn-oscillation", "raf"),
    **_oscillation("pinn-oscillation-tanh", "tanh"),
    **_oscillation("pinn-oscillation-sin", "sin"),
    **_both("pinn-oscillator", Oscillator),
    **_both("pinn-oscillator-gated", partial(Oscillator, gated=True)),
    "multigrid-prolongation": Prolongation,
    "multigrid-prolongation-small": partial(Prolongation, "multigrid-prolongation-small", 400),
}
"""Differential equations, and other problems of scientific computing."""
