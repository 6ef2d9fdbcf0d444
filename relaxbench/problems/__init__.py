"""Problems that methods are compared on: models on data, and functions of a few variables."""

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
