"""Entropy-SGD: gradient descent on the local entropy, whose gradient an inner Langevin loop estimates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from relaxbench.optim.hyper import (
    ANNEAL,
    AVERAGING,
    GAMMA_END,
    GAMMA_START,
    INNER_STEPS,
    LR,
    MOMENTUM,
    OUTER_LR,
    OUTER_MOMENTUM,
    RELAXED_GAMMA_START,
    RELAXED_INNER_STEPS,
    SCHEDULE,
    SCOPING,
    TEMPERATURE,
    WEIGHT_DECAY,
    Hyper,
)
from relaxbench.optim.outer_step import outer_step
from relaxbench.optim.parts import HALF_STEPS, INFINITE, NO_INNER_MOMENTUM, NO_OUTER_MOMENTUM, NO_SCOPING, Part
from relaxbench.optim.published import CIFAR_STEPS, MNIST_STEPS, NEAREST_STEP, Published, scope_ends
from relaxbench.optim.rule import Query, Rule, State, counters, nesterov, place, standard_normal
from relaxbench.recording import recording
from relaxbench.space import Space, Value

RELAXED: Space = {
    "outer_lr": OUTER_LR,
    "inner_lr": LR,
    "inner_steps": INNER_STEPS,
    "momentum": MOMENTUM,
    "outer_momentum": OUTER_MOMENTUM,
    "gamma_start": GAMMA_START,
    "gamma_end": GAMMA_END,
    "scoping": SCOPING,
    "weight_decay": WEIGHT_DECAY,
    "schedule": SCHEDULE,
    "anneal": ANNEAL,
}
SEARCHED: Space = {
    "inner_lr": LR,
    "inner_steps": RELAXED_INNER_STEPS,
    "gamma_start": RELAXED_GAMMA_START,
    "weight_decay": WEIGHT_DECAY,
    "schedule": SCHEDULE,
}
FIXED: Mapping[str, Value] = {
    "outer_lr": 1.0,
    "momentum": 0.9,
    "outer_momentum": 0.0,
    "gamma_end": 10.0,
    "scoping": "geometric",
    "anneal": "outer",
}
CANONICAL: Mapping[str, Value] = {
    "outer_lr": 1.0,  # then lower, see `schedule`
    "inner_lr": 0.1,
    "inner_steps": 20,
    "momentum": 0.9,
    "outer_momentum": 0.0,
    "scoping": "geometric",
    "weight_decay": 0.0,
    "schedule": "step",
    "anneal": "outer",
}
LANGEVIN: Mapping[str, Value] = {"averaging": 0.75, "temperature": 1e-8}  # ε = 1e-4, T = 1/β = ε²
LUA: Mapping[str, bool | int] = {"restart_momentum": True, "coupling_outside_momentum": True}
MNIST_SOURCE = (
    "arXiv 1611.01838, section 5, and train.lua of its code: -L 20 --gamma 1e-4 --scoping 1e-3 --noise 1e-4, "
    "5 outer epochs; η_x = 1, then 0.1"
)
CIFAR_SOURCE = (
    "arXiv 1611.01838, section 5, and train.lua of its code: -L 20 --gamma 0.03 --L2 1e-3, 10 outer epochs; η_x = 1, "
    "divided by 5 every 3"
)
RELAXED_REASONS: Mapping[str, str] = {
    "outer_lr": "the published η_x = 1, which the schedule then lowers; the inner loop's step size is searched instead",
    "inner_steps": "the two published lengths, 10 (LeNet) and 20",
    "gamma_start": "three decades, as for a step size; contains every published start: 33, 1000, 3300 and 10,000",
    "gamma_end": "between the published ends, 0.67 on CIFAR-10 and 960 on MNIST, and the low end of `gamma_start`, so "
    "that a scope never grows",
}


class EntropySGD(Rule):
    """Sample exp(−β f(y) − β |x − y|²/2γ) around x at temperature T = 1/β in an inner loop; move x towards its mean.

    L times, at y:

        d = ∇f(y) + wd y + (y − x)/γ
        y ← y − η_y N(v, d) + √(2 η_y T/(1 − m)) ξ
        z ← a z + (1 − a) y

    then

        x ← x − η_x N(v_x, x − z);  y = z = x

    The inner velocity v is kept across outer steps. T is the temperature of the chain if its steps are small,
    η_y (λ + 1/γ) ≪ (1 − m)² in a well of curvature λ: there momentum m would shrink the variance T/(λ + 1/γ) to its
    (1 − m)-fold, which the 1/(1 − m) under the root compensates. With longer steps the chain is hotter than T.

    The first two options, with `outer_momentum` = 0, give the code that was released with the paper.

    With `uniform_average`, z is the mean of y over the inner loop, and `averaging` has no effect. At γ = η_y and m = 0
    every y is then x + √(2 η_y T) ξ − η_y (∇f + wd y) of the y before it, so that x follows the gradient of the loss
    convolved with a Gaussian: the heat equation as the research code of arXiv 1704.04932 solves it, with
    g = 1/γ = 10 and η_y = 0.1.

    Memory: 6 copies: x, y, z, v, v_x, the gradient.

    Args:
        restart_momentum: Set v to zero at the end of every outer step.
        coupling_outside_momentum: Update v ← m v + ∇f(y) alone and add coupling and weight decay after the momentum.
            The chain then has the scope γ/(1 − m): its variance is T/(λ + (1 − m)/γ).
        uniform_average: Weigh all inner iterates equally in z, in place of z ← a z + (1 − a) y.
    """

    name, title = "entropy-sgd", "Entropy-SGD"
    source = "Chaudhari et al., arXiv 1611.01838, algorithm 1; arXiv 1704.04932, equation (20)"
    wide: ClassVar[Space] = {**RELAXED, "averaging": AVERAGING, "temperature": TEMPERATURE}
    space: ClassVar[Space] = SEARCHED
    default_fixed: ClassVar[Mapping[str, Value]] = {**FIXED, **LANGEVIN}
    publications = (
        Published(
            "fully-connected",
            {**CANONICAL, **LANGEVIN, **scope_ends(1e-4, 1e-3, 5 * MNIST_STEPS)},
            MNIST_SOURCE,
            {"schedule": NEAREST_STEP},
            LUA,
        ),
        Published(
            "mnist-conv",
            {**CANONICAL, **LANGEVIN, **scope_ends(1e-4, 1e-3, 5 * MNIST_STEPS)},
            MNIST_SOURCE,
            {"schedule": NEAREST_STEP},
            LUA,
        ),
        Published(
            "cifar-10",
            {**CANONICAL, **LANGEVIN, **scope_ends(0.03, 1e-3, 10 * CIFAR_STEPS), "weight_decay": 1e-3},
            CIFAR_SOURCE,
            options=LUA,
        ),
    )
    parts: ClassVar[tuple[Part, ...]] = (
        NO_SCOPING,
        Part("noise", "noise", "temperature 0", fixed={"temperature": 0.0}),
        Part("averaging", "averaging", "the last inner iterate in place of their mean", fixed={"averaging": 0.0}),
        NO_INNER_MOMENTUM,
        NO_OUTER_MOMENTUM,
        HALF_STEPS,
        Part(
            "coupling",
            "coupling",
            "γ = ∞, which is Lookahead with averaging and noise",
            fixed={"gamma_start": INFINITE, "gamma_end": INFINITE},
        ),
    )
    reasons: ClassVar[Mapping[str, str]] = {
        **RELAXED_REASONS,
        "averaging": "a = 0.75 in all released code",
        "temperature": "ε = 1e-4 in all published runs, and T = ε²",
    }
    overruled: ClassVar[Mapping[str, str]] = {"averaging": "uniform_average"}
    copies = 6
    scope = "gamma"

    def __init__(
        self, restart_momentum: bool = False, coupling_outside_momentum: bool = False, uniform_average: bool = False
    ) -> None:
        self.restart_momentum = restart_momentum
        self.coupling_outside_momentum = coupling_outside_momentum
        self.uniform_average = uniform_average

    def init(self, x: Tensor, seed: Tensor) -> State:
        zero = x.new_zeros(x.shape)
        start = {"x": x.clone(), "y": x.clone(), "z": x.clone(), "v": zero, "v_x": zero.clone()}
        return {**start, **counters(x, seed)}

    def at(self, hyper: Hyper, progress: Tensor) -> dict[str, Tensor]:
        """Add the factors of y in the average and of ξ, which do not change within a step, see `_factors`."""
        now = super().at(hyper, progress)
        return {**now, **self._factors(now)}

    @staticmethod
    def _factors(hyper: Hyper) -> dict[str, Tensor]:
        """Return 1 − a, and √(2 η_y T/(1 − m)) unless all temperatures are known to be 0: no noise is drawn."""
        if "temperature" not in hyper:
            return {}
        factors, temperature = {"renewal": 1 - hyper["averaging"]}, hyper["temperature"]
        if temperature.device.type != "cpu" or recording() or bool((temperature > 0).any()):
            factors["noise"] = (2 * hyper["inner_lr"] * temperature / (1 - hyper["momentum"])).sqrt()
        return factors

    def query(self, state: State, hyper: Hyper) -> Query:
        return Query(state["y"], state["t"])

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        if "renewal" not in hyper:  # hyperparameters without a schedule
            hyper = {**hyper, **self._factors(hyper)}
        self._inner(state, grad, hyper)
        state["t"] += 1
        due = place(state["t"], hyper["inner_steps"]) == 0
        reads = "x y z v_x outer_lr outer_momentum" + " v" * self.restart_momentum
        outer_step(due, state, hyper, reads, self._outer)
        return state

    def period(self, hyper: Hyper) -> Tensor:
        return hyper["inner_steps"].to(torch.int64)

    def _inner(self, state: State, grad: Tensor, hyper: Hyper) -> None:
        x, y = state["x"], state["y"]
        pull = (y - x).div_(hyper["gamma"]).add_(hyper["weight_decay"] * y)
        if self.coupling_outside_momentum:
            d = nesterov(state["v"], hyper["momentum"], grad).add_(pull)
        else:
            d = nesterov(state["v"], hyper["momentum"], pull.add_(grad))
        y.sub_(d.mul_(hyper["inner_lr"]))
        if "noise" in hyper:
            y.add_(standard_normal(state, y.shape[1], y.dtype, hyper["noise"]))
        self._average(state, hyper)

    def _average(self, state: State, hyper: Hyper) -> None:
        if self.uniform_average:  # z = x = y before the first of the L iterates
            count = place(state["t"], hyper["inner_steps"]) + 1
            state["z"].add_((state["y"] - state["z"]).div_(count))
            return
        state["z"].mul_(hyper["averaging"]).add_(hyper["renewal"] * state["y"])

    def _outer(self, state: State, hyper: Hyper) -> State:
        v = state["v_x"].clone()
        x = state["x"] - hyper["outer_lr"] * nesterov(v, hyper["outer_momentum"], state["x"] - state["z"])
        restarted = {"v": torch.zeros_like(state["v"])} if self.restart_momentum else {}
        return {"x": x, "y": x, "z": x, "v_x": v, **restarted}
