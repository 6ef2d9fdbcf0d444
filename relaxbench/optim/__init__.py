"""The mathematics: one rule a file, schedules, declared hyperparameters; and the rules as PyTorch optimizers."""

from relaxbench.optim.batch_norm import reestimate_batch_norm
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
    drop_in,
)
from relaxbench.optim.torch_curvature import CurveBall

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
