"""Parle: replicas of Entropy-SGD that attract each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from relaxbench.optim import schedules
from relaxbench.optim.hyper import AVERAGING, LR, SCHEDULE, WEIGHT_DECAY, Hyper
from relaxbench.optim.meanings import Meaning
from relaxbench.optim.outer_step import outer_step
from relaxbench.optim.parts import HALF_STEPS, INFINITE, NO_INNER_MOMENTUM, NO_OUTER_MOMENTUM, ZERO, Part
from relaxbench.optim.published import NEAREST_STEP, Published
from relaxbench.optim.rule import (
    Query,
    Rule,
    State,
    check_replicas,
    counters,
    expand_for_replicas,
    nesterov,
    own_batches,
    place,
    replicate,
)
from relaxbench.optim.rules.entropy_sgd import RELAXED
from relaxbench.space import Float, Int, Space, Value

FIXED: Mapping[str, Value] = {
    "outer_lr": 0.1,
    "momentum": 0.9,
    "outer_momentum": 0.9,
    "gamma_end": 1.0,  # g = min(0.01 (1 + 0.5/B)^t, 1)
    "scoping": "geometric",
    "anneal": "outer",
    "averaging": 0.75,
    "rho_start": 1.0,  # ρ = min((1 + 0.5/B)^t, 10)
    "rho_end": 10.0,
}
CANONICAL: Mapping[str, Value] = {**FIXED, "inner_lr": 0.1, "inner_steps": 25, "gamma_start": 100.0, "schedule": "step"}
PAPER = (
    "arXiv 1707.00424, section 4, and parle_mpi.py of its code: n = 3, L = 25, lr 0.1, g from 0.01 to 1, ρ from 1 to 10"
)


class Parle(Rule):
    """Run Entropy-SGD n times in parallel, without noise, each with its own x_i.

    L times:

        d = ∇f(y_i) + wd y_i + (y_i − x_i)/γ;  y_i ← y_i − η_y N(u_i, d);  z_i ← a z_i + (1 − a) y_i

    then, with r the mean of the z_i:

        x_i ← x_i − η_x N(v_i, (x_i − z_i) + ρ (x_i − r));  y_i = x_i

    z is kept across outer steps, as published. ρ grows from `rho_start` to `rho_end` on the schedule of γ. The mean of
    the x_i is evaluated and deployed. Stable only for η_x ρ < 1.357 at outer momentum 0.9.

    Memory: 6 n copies: x, y, z, u, v and a gradient per replica; 18 copies for n = 3.

    Args:
        replicas: Number n of replicas, at least 1.
        restart_average: Set z to x at the end of every outer step.
        mpi_code: Take the steps of the released parle_mpi.py: both loops move along d + v in place of d + m v, and the
            outer step begins at y_i in place of x_i.
    """

    name, title = "parle", "Parle"
    source = "Chaudhari et al., arXiv 1707.00424"
    wide: ClassVar[Space] = {
        **RELAXED,
        "averaging": AVERAGING,
        "rho_start": Float(0.01, 1.0, 0.1, log=True, above=True),
        "rho_end": Float(0.01, 10.0, 1.0, log=True, above=True),
    }
    space: ClassVar[Space] = {
        "inner_lr": LR,
        "inner_steps": Int(20, 25, 25, step=5),
        "gamma_start": Float(1.0, 1e3, 100.0, log=True, above=True),
        "weight_decay": WEIGHT_DECAY,
        "schedule": SCHEDULE,
    }
    default_fixed: ClassVar[Mapping[str, Value]] = FIXED
    publications = (
        Published("mnist-conv", {**CANONICAL, "weight_decay": 0.0}, PAPER, {"schedule": NEAREST_STEP}),
        Published(
            "cifar-10",
            {**CANONICAL, "weight_decay": 1e-3},
            PAPER,
            {"weight_decay": "as in the published SGD on the same network", "schedule": NEAREST_STEP},
        ),
    )
    parts = (
        Part(
            "scoping",
            "scoping of γ and ρ",
            "γ and ρ constant, each at the geometric mean of its start and end",
            fixed={"scoping": "mean"},
        ),
        Part("averaging", "averaging", "the last inner iterate in place of their mean", fixed={"averaging": 0.0}),
        NO_INNER_MOMENTUM,
        NO_OUTER_MOMENTUM,
        HALF_STEPS,
        Part(
            "coupling",
            "coupling to the inner loops",
            "γ = ∞, which is Lookahead with averaging in n replicas that attract each other",
            fixed={"gamma_start": INFINITE, "gamma_end": INFINITE},
        ),
        Part(
            "attraction",
            "attraction of the replicas",
            "ρ = 0, which is n independent copies of Entropy-SGD without noise, whose mean is evaluated",
            fixed={"rho_start": ZERO, "rho_end": ZERO},
        ),
    )
    reasons: ClassVar[Mapping[str, str]] = {
        "outer_lr": "the published η_x = 0.1, stable with momentum 0.9 up to η_x ρ = 1.357: here it is at most 1",
        "outer_momentum": "the published code has momentum 0.9 in both loops",
        "inner_steps": "the published 25, and the 20 of Entropy-SGD, which Parle extends",
        "gamma_start": "three decades, as for a step size, from the published end; the published 100 is in the middle",
        "gamma_end": "the published limit g = 1/γ = 1, and the low end of `gamma_start`, so that a scope never grows",
        "averaging": "a = 0.75 in all released code",
        "rho_start": "the published start",
        "rho_end": "the published limit",
    }
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "rho_start": Meaning("Attraction ρ of the replicas at the start of training"),
        "rho_end": Meaning("Attraction ρ at the end of training"),
    }
    elementwise = True
    copies = 18  # for three replicas
    scope = "gamma"

    def __init__(self, replicas: int = 3, restart_average: bool = False, mpi_code: bool = False) -> None:
        self.replicas, self.restart_average, self.mpi_code = check_replicas(replicas), restart_average, mpi_code
        self.copies = 6 * replicas

    def init(self, x: Tensor, seed: Tensor) -> State:
        start = replicate(x, self.replicas)
        moving = {name: start.clone() for name in ("y", "z")}
        still = {name: torch.zeros_like(start) for name in ("u", "v")}
        return {"x": start, **moving, **still, **counters(x, seed)}

    def query(self, state: State, hyper: Hyper) -> Query:
        return Query(state["y"], own_batches(state, self.replicas))

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        y, z = state["y"], state["z"]
        now = {name: expand_for_replicas(value, y) for name, value in hyper.items()}
        a = now["averaging"]
        d = (y - state["x"]).div_(now["gamma"]).add_(now["weight_decay"] * y).add_(grad)
        y.sub_(self._direction(state["u"], now["momentum"], d).mul_(now["inner_lr"]))
        z.mul_(a).add_((1 - a) * y)
        state["t"] += 1
        due = place(state["t"], hyper["inner_steps"]) == 0
        outer_step(due, state, hyper, "x y z v outer_lr outer_momentum rho", self._outer)
        return state

    def iterate(self, state: State) -> Tensor:
        first = state["x"][:, 0]
        return first + (state["x"] - first[:, None]).mean(dim=1)  # exact where all replicas are equal

    def period(self, hyper: Hyper) -> Tensor:
        return hyper["inner_steps"].to(torch.int64)

    def at(self, hyper: Hyper, progress: Tensor) -> dict[str, Tensor]:
        rho = schedules.scope(hyper["scoping"], hyper["rho_start"], hyper["rho_end"], progress)
        return {**super().at(hyper, progress), "rho": rho}

    def _direction(self, velocity: Tensor, momentum: Tensor, d: Tensor) -> Tensor:
        """Update the velocity in place; return the direction of the step, a new tensor."""
        if not self.mpi_code:
            return nesterov(velocity, momentum, d)
        return velocity.mul_(momentum).add_(d) + d

    def _outer(self, state: State, hyper: Hyper) -> State:
        x, z, v = state["x"], state["z"], state["v"].clone()
        now = {name: expand_for_replicas(value, x) for name, value in hyper.items()}
        d = (x - z) + now["rho"] * (x - z.mean(dim=1, keepdim=True))
        start = state["y"] if self.mpi_code else x
        x = start - now["outer_lr"] * self._direction(v, now["outer_momentum"], d)
        return {"x": x, "y": x, "v": v, **({"z": x} if self.restart_average else {})}
