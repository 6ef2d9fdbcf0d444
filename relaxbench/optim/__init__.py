"""Optimizers: the rules, their schedules and hyperparameters, and every rule as a PyTorch optimizer."""

from relaxbench.optim.drop_in.batch_norm import reestimate_batch_norm
from relaxbench.optim.drop_in.classes import (
    LPFSGD,
    SAM,
    SGD,
    SGDEMA,
    AdamW,
    ElasticSGD,
    EntropySGD,
    HamiltonJacobi,
    HamiltonJacobiImplicit,
    HeatSGD,
    Lookahead,
    Parle,
    drop_in,
)
from relaxbench.optim.drop_in.curveball import CurveBall

__all__ = [
    "LPFSGD",
    "SAM",
    "SGD",
    "SGDEMA",
    "AdamW",
    "CurveBall",
    "ElasticSGD",
    "EntropySGD",
    "HamiltonJacobi",
    "HamiltonJacobiImplicit",
    "HeatSGD",
    "Lookahead",
    "Parle",
    "drop_in",
    "reestimate_batch_norm",
]
