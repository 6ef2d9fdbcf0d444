"""The scientific problems by name; each has a small variant for two cores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from relaxbench.problems.problem import Problem
from relaxbench.problems.science.poisson import Poisson

SCIENCE: Mapping[str, Callable[[], Problem]] = {
    "pinn-poisson2d": Poisson,
    "pinn-poisson2d-small": partial(Poisson, "pinn-poisson2d-small", small=True),
}
"""Differential equations, and other problems of scientific computing."""
