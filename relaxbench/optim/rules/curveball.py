"""CurveBall: a Newton method that keeps one estimate of its step and improves it once per mini-batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from relaxbench.optim.hyper import SCHEDULE, WEIGHT_DECAY, Hyper
from relaxbench.optim.inner_products import gram
from relaxbench.optim.meanings import Meaning
from relaxbench.optim.parts import Part
from relaxbench.optim.published import Published
from relaxbench.optim.rule import CurvatureOracle, Linearization, Rule, State, counters
from relaxbench.recording import recording
from relaxbench.space import Float, Space, Value

EVERY = 5
"""Steps between two evaluations of the trust-region ratio."""
SINGULAR = 1e-12
"""det/(a₁₁ a₂₂) below which z and Δz count as parallel."""
NEWTON_LR = Float(0.05, 1.0, 1.0, log=True, below=2.0)
DAMPING = Float(1e-2, 1e2, 1.0, log=True)
CANONICAL: Mapping[str, Value] = {
    "newton_lr": 1.0,
    "damping": 1.0,
    "damping_factor": 0.999,
    "weight_decay": 0.0,
    "schedule": "constant",
}
RELEASE = "arXiv 1805.08095, section 4, and its code: learningRate 1, lambda 1, autolambda_w1 0.999"
TOYS = "arXiv 1805.08095, section 4.1: λ fixed"


class CurveBall(Rule):
    """Keep an estimate z of −H⁻¹∇f; improve it and follow it in the same step.

    With H = JᵀH_L J + λ + wd on this mini-batch:

        Δz = Jᵀ(H_L Jz + ∇L) + λ z + wd (z + x);  z ← ρ z − β Δz;  x ← x + α z

    α is `newton_lr`; (ρ, β) minimize the quadratic model over span{z, Δz}, ρ = 0 where these are parallel. J is the
    Jacobian of the network up to its logits; ∇L and H_L are the gradient and the Hessian of the loss in the logits. The
    whole step uses one mini-batch. Every fifth step evaluates the loss again and computes the trust-region ratio
    r = (f(x + α z) − f(x))/((2α − α²) M), where M is the minimum of the quadratic model. If r < 0.5, λ is divided by
    `damping_factor`⁵; if r > 1.5, it is multiplied by it.

    Memory: 4 copies: x, z, Δz, and one for products.

    Args:
        auto_damping: Adapt λ. If False, a step costs a fifth of a forward pass less.
    """

    name, title = "curveball", "CurveBall"
    source = "Henriques, Ehrhardt, Albanie & Vedaldi, arXiv 1805.08095, algorithm 1 and section 3"
    wide: ClassVar[Space] = {
        "newton_lr": NEWTON_LR,
        "damping": DAMPING,
        "damping_factor": Float(0.8, 0.999, 0.99, above=True),
        "weight_decay": WEIGHT_DECAY,
        "schedule": SCHEDULE,
    }
    space: ClassVar[Space] = {
        "newton_lr": NEWTON_LR,
        "damping": DAMPING,
        "weight_decay": WEIGHT_DECAY,
        "schedule": SCHEDULE,
    }
    default_fixed: ClassVar[Mapping[str, Value]] = {"damping_factor": 0.999}
    publications = (
        Published("fully-connected", CANONICAL, RELEASE),
        Published("cifar-10", CANONICAL, f"{RELEASE} (10 without batch normalization)"),
        Published("rosenbrock", {**CANONICAL, "newton_lr": 0.5, "damping": 0.1}, TOYS, {}, {"auto_damping": False}),
        Published("linear-net", CANONICAL, TOYS, {}, {"auto_damping": False}),
    )
    parts = (Part("damping", "adaptive damping", "λ constant at its start", options={"auto_damping": False}),)
    reasons: ClassVar[Mapping[str, str]] = {
        "newton_lr": "up to 1, the whole Newton step and the published value on networks; it multiplies no gradient, "
        "so it needs fewer decades than a step size",
        "damping": "four decades around the published 1; contains the published 0.1 and 10",
        "damping_factor": "the published 0.999; λ hardly changes within 2,000 steps, so its start is searched over "
        "four decades",
    }
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "damping_factor": Meaning("Factor on λ per step if the loss falls more than predicted; else its inverse"),
    }
    copies = 4
    rate = "newton_lr"
    curvature = True

    def __init__(self, auto_damping: bool = True) -> None:
        self.auto_damping = auto_damping
        # In forward passes; a gradient is three. Linearize and push are three each (the tangent of W a is dW a + W da),
        # pull is two, and an evaluation of the loss is one, every fifth step.
        self.price = (3 + 2 + 3 + auto_damping / EVERY) / 3

    def init(self, x: Tensor, seed: Tensor) -> State:
        factor = x.new_ones(x.shape[0], 1)  # λ is `damping` times this
        return {"x": x.clone(), "z": x.new_zeros(x.shape), "factor": factor, **counters(x, seed)}

    def step(self, state: State, oracle: CurvatureOracle, hyper: Hyper) -> tuple[State, Tensor]:
        x, z, decay = state["x"], state["z"], hyper["weight_decay"]
        alpha, damping = hyper["newton_lr"], hyper["damping"] * state["factor"]
        ridge = damping + decay
        here = oracle.linearize(x, z, state["t"])
        bent = here.bend(here.tangent)
        dz = here.pull(bent + here.gradient)
        scratch = ridge * z
        dz.add_(scratch).add_(torch.mul(decay, x, out=scratch))
        del scratch
        pushed = here.push(dz)

        # Rows: z, Δz and x with their weights λ + wd, λ + wd and wd; columns: z and Δz, by which the model is spanned.
        weighted = _weighted(z, dz, x, ridge, decay)
        logits = gram([v.flatten(1) for v in (here.tangent, pushed, bent, here.bend(pushed), here.gradient)])
        model = logits[:, 2:, :2] + weighted[:, :, :2]
        a22, a12, a11, b2, b1 = (model[:, i, j, None] for i, j in ((0, 0), (0, 1), (1, 1), (2, 0), (2, 1)))
        beta, rho = _minimize(a11, a12, a22, b1, b2)

        z.mul_(rho.to(x.dtype)).sub_(dz.mul_(beta.to(x.dtype)))
        before = here.loss.double() + 0.5 * weighted[:, 2, 2, None]
        x.add_(torch.mul(alpha, z, out=dz))  # in the memory of Δz, which nobody needs any longer
        if self.auto_damping:
            self._adapt_damping(state, hyper, here, before, -0.5 * (b1 * beta - b2 * rho))
        state["t"] += 1
        return state, here.loss

    def _adapt_damping(self, state: State, hyper: Hyper, here: Linearization, before: Tensor, model: Tensor) -> None:
        """Adapt λ of the members that are at a fifth step."""
        due = state["t"] % EVERY == 0
        if due.device.type == "cpu" and not recording() and not bool(due.any()):
            return
        x, alpha = state["x"], hyper["newton_lr"].double()
        decay = hyper["weight_decay"]
        size = decay.double() * gram((x,))[:, 0] if decay.shape[1] == 1 else gram((x, decay * x))[:, 0, 1, None]
        after = here.loss_at(x).double() + 0.5 * size
        ratio = (after - before) / ((2 * alpha - alpha**2) * model)
        step = (hyper["damping_factor"] ** EVERY).to(x.dtype)
        one = torch.ones_like(step)
        change = torch.where(ratio < 0.5, 1 / step, torch.where(ratio > 1.5, step, one))
        state["factor"].mul_(torch.where(due, change, one))


def _weighted(z: Tensor, dz: Tensor, x: Tensor, ridge: Tensor, decay: Tensor) -> Tensor:
    """Compute the inner products of ridge z, ridge Δz and decay x with z, Δz and x, float64 ``[K, 3, 3]``.

    Args:
        z, dz, x: ``[K, P]``.
        ridge, decay: ``[K, 1]``, or ``[K, P]`` if the groups of parameters differ: then inside the products.
    """
    if ridge.shape[1] > 1:
        return gram((z, dz, x, ridge * z, ridge * dz, decay * x))[:, 3:, :3]
    return gram((z, dz, x)) * torch.cat((ridge, ridge, decay), dim=1).double()[:, :, None]


def _minimize(a11: Tensor, a12: Tensor, a22: Tensor, b1: Tensor, b2: Tensor) -> tuple[Tensor, Tensor]:
    """Find (β, ρ) that minimize the model at ρ z − β Δz, member by member; 0 where they are not finite."""
    det = a11 * a22 - a12 * a12
    regular = det > SINGULAR * a11 * a22
    beta = torch.where(regular, (a22 * b1 - a12 * b2) / det, b1 / a11)
    rho = torch.where(regular, (a12 * b1 - a11 * b2) / det, torch.zeros_like(b1))
    return torch.nan_to_num(beta, 0.0, 0.0, 0.0), torch.nan_to_num(rho, 0.0, 0.0, 0.0)
