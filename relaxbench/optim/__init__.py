"""The methods: their rules, schedules and declared hyperparameters, and each rule as a PyTorch optimizer.

This package exports the optimizers for your own training loop. Start with `rule`, the protocol of a rule; `rules` has
one paper per file, `drop_in` the optimizers, and `registry` the rules by name.
"""

from relaxbench.optim.drop_in.batch_norm import reestimate_batch_norm
from relaxbench.optim.drop_in.classes import (
    ASAM,
    GPA,
    LPFSGD,
    SAM,
    SGD,
    SGDEMA,
    SGLD,
    AdamW,
    AdamWEMA,
    AdamWLAWA,
    DiLoCo,
    ElasticSGD,
    EntropySGD,
    HamiltonJacobi,
    HamiltonJacobiImplicit,
    HeatSGD,
    Lookahead,
    Muon,
    Parle,
    ScheduleFreeAdamW,
    ScheduleFreeSGD,
    drop_in,
)
from relaxbench.optim.drop_in.curveball import CurveBall

__all__ = [
    "ASAM",
    "GPA",
    "LPFSGD",
    "SAM",
    "SGD",
    "SGDEMA",
    "SGLD",
    "AdamW",
    "AdamWEMA",
    "AdamWLAWA",
    "CurveBall",
    "DiLoCo",
    "ElasticSGD",
    "EntropySGD",
    "HamiltonJacobi",
    "HamiltonJacobiImplicit",
    "HeatSGD",
    "Lookahead",
    "Muon",
    "Parle",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "drop_in",
    "reestimate_batch_norm",
]
