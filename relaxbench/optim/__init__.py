"""The mathematics: one rule a file, schedules, declared hyperparameters; and the rules as PyTorch optimizers."""

from relaxbench.optim.drop_ins import (
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
)

__all__ = [
    "LPFSGD",
    "SAM",
    "SGD",
    "SGDEMA",
    "AdamW",
    "ElasticSGD",
    "EntropySGD",
    "HamiltonJacobi",
    "HamiltonJacobiImplicit",
    "HeatSGD",
    "Lookahead",
    "Parle",
]
