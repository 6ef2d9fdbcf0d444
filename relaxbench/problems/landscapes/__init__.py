"""Functions of a few variables whose minima are known.

Start with `landscape`, which has the base class and Rosenbrock's function.
"""

from relaxbench.problems.landscapes.landscape import ChainedRosenbrock, Landscape, NumberedDraws, Rosenbrock, Rugged1D
from relaxbench.problems.landscapes.linear_net import LinearNet
from relaxbench.problems.landscapes.quadratic import Quadratic
from relaxbench.problems.landscapes.wells import DoubleWell, GaussianWells

__all__ = [
    "ChainedRosenbrock",
    "DoubleWell",
    "GaussianWells",
    "Landscape",
    "LinearNet",
    "NumberedDraws",
    "Quadratic",
    "Rosenbrock",
    "Rugged1D",
]
