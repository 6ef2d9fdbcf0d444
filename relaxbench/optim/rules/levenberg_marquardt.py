"""Levenberg–Marquardt: damped Gauss–Newton steps by a fixed number of conjugate gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from relaxbench.optim.hyper import WEIGHT_DECAY, Hyper
from relaxbench.optim.published import Published
from relaxbench.optim.rule import CurvatureOracle, Linearization, Rule, State, check_replicas, counters, row_sums
from relaxbench.optim.rules.curveball import DAMPING
from relaxbench.space import Space

LARGEST = 1e20
"""Limit of the factors on the damping, and its inverse, so that they stay finite where no step is accepted."""


class LevenbergMarquardt(Rule):
    """Take Gauss–Newton steps whose damping follows the gain: how much of the predicted decrease comes true.

    With g = ∇f + wd x and G = JᵀH_L J + wd on this mini-batch, p approximates the minimum of the damped model by
    `cg_steps` conjugate gradients from 0:

        (G + λ) p ≈ −g;  ϱ = (f(x + p) − f(x))/(gᵀp + ½ pᵀG p)

    If ϱ > 0, x ← x + p, λ ← λ max(1/3, 1 − (2ϱ − 1)³) and b ← 2; else λ ← b λ and b ← 2 b. J is the Jacobian of the
    network up to its outputs, H_L the Hessian of the loss in them; f has (wd/2)|x|² added. The whole step uses one
    mini-batch.

    Memory: 8 copies: x, x once more while it is linearized, g, p, the residual, the direction of the conjugate
    gradients, its product and a part of that.

    Args:
        cg_steps: Conjugate gradients per step, whose number fixes the price of a step.
    """

    name, title = "levenberg-marquardt", "Levenberg–Marquardt"
    source = (
        "Levenberg, 1944; Marquardt, 1963; the damping: Madsen, Nielsen & Tingleff, Methods for non-linear least "
        "squares problems, 2004, algorithm 3.16; by conjugate gradients: Martens, ICML 2010"
    )
    space: ClassVar[Space] = {"damping": DAMPING, "weight_decay": WEIGHT_DECAY}
    publications: ClassVar[tuple[Published, ...]] = (
        Published(
            "fully-connected",
            {"damping": 45.0, "weight_decay": 2e-5},
            "Martens, ICML 2010, and its code (nnet_train_2.m: initlambda 45, weightcost 2e-5)",
        ),
    )
    reasons: ClassVar[Mapping[str, str]] = {
        "damping": "four decades that contain the published 45; λ adapts within a few steps, so its start matters "
        "little",
    }
    copies = 8
    curvature = finds_steps = True

    def __init__(self, cg_steps: int = 20) -> None:
        self.cg_steps = check_replicas(cg_steps, "cg_steps")
        # In forward passes; a gradient is three: the loss at x, a pull for g, the loss at x + p, and a push (three) and
        # a pull (two) for each conjugate gradient.
        self.price = (1 + 2 + 1 + 5 * cg_steps) / 3

    def init(self, x: Tensor, seed: Tensor) -> State:
        one = torch.ones(len(x), 1, dtype=torch.float64, device=x.device)
        return {"x": x.clone(), "factor": one, "boost": 2 * one, **counters(x, seed)}  # λ is `damping` times `factor`

    def step(self, state: State, oracle: CurvatureOracle, hyper: Hyper) -> tuple[State, Tensor]:
        x, decay = state["x"], hyper["weight_decay"]
        damping = hyper["damping"] * state["factor"].to(x.dtype)
        here = oracle.linearize(x, None, state["t"])
        slope = here.pull(here.gradient, keep=True) + decay * x
        p, residual = self._solve(here, slope, damping + decay)
        # gᵀp + ½ pᵀG p, because the residual is −g − (G + λ) p
        model = 0.5 * (_dot(slope, p) - _dot(residual, p) - _dot(damping * p, p))
        before = here.loss.double() + 0.5 * _dot(decay * x, x)
        there = x + p
        after = here.loss_at(there).double() + 0.5 * _dot(decay * there, there)
        gain = (after - before) / model
        better = (after < before) & (gain > 0)
        x.copy_(torch.where(better, there, x) + torch.where(torch.isfinite(before), 0.0, torch.nan).to(x.dtype))
        self._adapt_damping(state, better, gain)
        state["t"] += 1
        return state, here.loss

    def _solve(self, here: Linearization, slope: Tensor, ridge: Tensor) -> tuple[Tensor, Tensor]:
        """Run conjugate gradients on (JᵀH_L J + ridge) p = −slope; return p and the residual."""
        p, residual, q = torch.zeros_like(slope), -slope, -slope
        square = _dot(residual, residual)
        least = torch.finfo(slope.dtype).eps ** 2 * square  # below it the rest is rounding
        for left in reversed(range(self.cg_steps)):
            product = here.pull(here.bend(here.push(q)), keep=left > 0) + ridge * q
            bend = _dot(q, product)
            goes_on = (square > least) & (bend > 0)
            length = torch.where(goes_on, square / bend, torch.zeros_like(bend)).to(p.dtype)
            p = p + length * q
            residual = residual - length * product
            following = _dot(residual, residual)
            ratio = torch.where(goes_on, following / square, torch.zeros_like(square)).to(p.dtype)
            q, square = residual + ratio * q, following
        return p, residual

    @staticmethod
    def _adapt_damping(state: State, better: Tensor, gain: Tensor) -> None:
        boost, shrunk = state["boost"], (1 - (2 * gain - 1) ** 3).clamp(min=1 / 3)
        state["factor"].mul_(torch.where(better, shrunk, boost)).clamp_(1 / LARGEST, LARGEST)
        boost.copy_(torch.where(better, torch.full_like(boost, 2.0), (2 * boost).clamp(max=LARGEST)))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Compute inner products member by member, float64 ``[K, 1]``."""
    return row_sums(a.double() * b.double())
