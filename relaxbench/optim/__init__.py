"""The mathematics: one rule a file, schedules, declared hyperparameters; and the rules as PyTorch optimizers."""

from relaxbench.optim.torch_api import (
    SGD,
    SGDEMA,
    EntropySGD,
    HamiltonJacobi,
    HamiltonJacobiImplicit,
    HeatSGD,
    Lookahead,
)

__all__ = ["SGD", "SGDEMA", "EntropySGD", "HamiltonJacobi", "HamiltonJacobiImplicit", "HeatSGD", "Lookahead"]
