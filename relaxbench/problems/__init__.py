"""Problems that methods are compared on: models on data, and functions of a few variables.

`supervised` has the class for your own model and data, `problem` the base class of all, and `registry` the built-in
problems by name.
"""

from relaxbench.problems.layers import Dropout
from relaxbench.problems.losses import Batch, Loss
from relaxbench.problems.problem import Params, Problem, Sampler
from relaxbench.problems.registry import PROBLEMS, problem, problem_names
from relaxbench.problems.supervised import SupervisedProblem

__all__ = [
    "PROBLEMS",
    "Batch",
    "Dropout",
    "Loss",
    "Params",
    "Problem",
    "Sampler",
    "SupervisedProblem",
    "problem",
    "problem_names",
]
