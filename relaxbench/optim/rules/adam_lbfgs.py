"""Adam for a share of the budget, then L-BFGS: the usual way to train physics-informed networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from relaxbench.optim.hyper import WEIGHT_DECAY, Hyper
from relaxbench.optim.meanings import Meaning
from relaxbench.optim.outer_step import outer_step
from relaxbench.optim.published import Published
from relaxbench.optim.rule import State, uniform_value
from relaxbench.optim.rules.adamw import ADAM_LR, BETAS, EPSILON, AdamW
from relaxbench.optim.rules.lbfgs import HISTORY, LBFGS
from relaxbench.space import Float, Space, Value

SWITCH = Float(0.02, 0.8, 0.27, below=1.0)
RELEASE = (
    "arXiv 2402.01868 and its code (opt_for_pinns): Adam for 11,000 of 41,000 steps, then torch.optim.LBFGS, lr 1, "
    "strong_wolfe, history 100"
)


class AdamLBFGS(LBFGS):
    """Adam while the share of the budget that is spent is below `switch`; then L-BFGS from where it ends.

    Adam's gradient has wd x added, so that both minimize f + (wd/2)|x|²; its step size is constant. L-BFGS is the rule
    `lbfgs`, whose first evaluation is at Adam's last point.

    It compares losses, so all mini-batches must be one and the same.

    Memory: 2 M + 7 copies: those of L-BFGS, and Adam's m and v.
    """

    name, title = "adam-lbfgs", "Adam, then L-BFGS"
    source = "Rathore, Lei, Frangella, Lu & Udell, arXiv 2402.01868, section 2.2; L-BFGS as in the rule lbfgs"
    wide: ClassVar[Space] = {
        "adam_lr": ADAM_LR,
        "beta1": AdamW.wide["beta1"],
        "beta2": AdamW.wide["beta2"],
        "switch": SWITCH,
        "newton_lr": LBFGS.wide["newton_lr"],
        "weight_decay": WEIGHT_DECAY,
    }
    space: ClassVar[Space] = {"adam_lr": ADAM_LR, "switch": SWITCH, "weight_decay": WEIGHT_DECAY}
    default_fixed: ClassVar[Mapping[str, Value]] = {**BETAS, "newton_lr": 1.0}
    publications: ClassVar[tuple[Published, ...]] = (
        Published(
            "equation",
            {**BETAS, "adam_lr": 1e-3, "switch": 0.27, "newton_lr": 1.0, "weight_decay": 0.0},
            RELEASE,
            {"adam_lr": "the authors tune it per problem on 1e-5 to 0.1; here the default of torch.optim.Adam"},
            {"history": 100},
        ),
    )
    reasons: ClassVar[Mapping[str, str]] = {
        "adam_lr": AdamW.reasons["adam_lr"],
        "beta1": "0.9 in the published runs",
        "beta2": "0.999 in the published runs",
        "switch": "the published 1,000, 11,000 and 31,000 of 41,000 steps lie inside",
        "newton_lr": "1 in the published runs",
    }
    meanings: ClassVar[Mapping[str, Meaning]] = {
        **LBFGS.meanings,
        "switch": Meaning("Share of the budget that Adam has"),
    }
    rate = "adam_lr"
    vectors = 7
    copies = 2 * HISTORY + vectors

    def init(self, x: Tensor, seed: Tensor) -> State:
        zero, one = torch.zeros_like(x), x.new_ones(len(x), 1)
        return {
            **super().init(x, seed),
            "m": zero,
            "v": zero.clone(),
            "forgotten1": one,
            "forgotten2": one.clone(),
        }

    def at(self, hyper: Hyper, progress: Tensor) -> dict[str, Tensor]:
        now = super().at(hyper, progress)
        return now | {"newton": (progress >= hyper["switch"]).to(progress.dtype)}

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        newton = hyper["newton"] > 0
        alike = uniform_value(newton)
        if alike is not True:
            reads = "x grad m v forgotten1 forgotten2 adam_lr beta1 beta2 weight_decay"
            due = ~newton if alike is None else True
            outer_step(due, {**state, "grad": grad}, hyper, reads, _adam)
        if alike is not False:
            self.search(state, grad, loss, hyper, newton)
        state["t"] += 1
        return state


def _adam(state: State, hyper: Hyper) -> State:
    """Take x ← x − η m̂/(√v̂ + ε), with the means m of g and v of g², and hats for bias corrected."""
    x, beta1, beta2 = state["x"], hyper["beta1"], hyper["beta2"]
    slope = state["grad"] + hyper["weight_decay"] * x
    m = beta1 * state["m"] + (1 - beta1) * slope
    v = beta2 * state["v"] + (1 - beta2) * slope * slope
    forgotten1, forgotten2 = state["forgotten1"] * beta1, state["forgotten2"] * beta2
    step = m / (1 - forgotten1) / ((v / (1 - forgotten2)).sqrt() + EPSILON)
    return {"x": x - hyper["adam_lr"] * step, "m": m, "v": v, "forgotten1": forgotten1, "forgotten2": forgotten2}
