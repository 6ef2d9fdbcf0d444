"""The meaning of every hyperparameter that rules share, by its name.

A rule that alone has a hyperparameter, or uses a shared name in another sense, says so in `Rule.meanings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from relaxbench.optim.schedules import FACTOR, STEPS, WARMUP


class Meaning(NamedTuple):
    """What a hyperparameter is.

    Attributes:
        text: a phrase without a full stop, with the symbol in the rule's formula.
        unit: in terms of parameters and loss; empty for a pure number or a name.
    """

    text: str
    unit: str = ""


_STEP = "parameter²/loss"  # of a step size, which multiplies a gradient, and of γ, which divides a displacement
_DROPS = ", ".join(f"{100 * at:g}" for at in STEPS[:-1])

MEANINGS: Mapping[str, Meaning] = {
    "lr": Meaning("Step size η", _STEP),
    "inner_lr": Meaning("Step size η_y of the inner loop", _STEP),
    "outer_lr": Meaning("Outer step size η_x: the part of the way to the result of the inner loop that x moves"),
    "momentum": Meaning("Momentum m: the part of the velocity that a step keeps"),
    "outer_momentum": Meaning("Momentum of the outer steps"),
    "weight_decay": Meaning("Weight decay wd, which adds wd times the parameters to a gradient", "loss/parameter²"),
    "inner_steps": Meaning("Number L of inner steps per outer step"),
    "averaging": Meaning("Weight a of the past in the running average of the inner loop"),
    "gamma_start": Meaning("Scope γ at the start of training; a large scope couples y loosely to x", _STEP),
    "gamma_end": Meaning("Scope γ at the end of training", _STEP),
    "scoping": Meaning("Curve from the start of a scope to its end"),
    "temperature": Meaning("Temperature T of the Langevin noise; 0 means no noise", "loss"),
    "schedule": Meaning(
        f"Curve of the step size over training: constant; step, times {FACTOR:g} at {_DROPS} and "
        f"{100 * STEPS[-1]:g} %; cosine, to zero; warmup, a linear rise over {100 * WARMUP:g} %, then cosine"
    ),
    "warmup": Meaning("Share of the budget over which the step size rises linearly to its value"),
    "newton_lr": Meaning("Step size α; 1 is the whole Newton step"),
    "damping": Meaning("Damping λ at the start of training, added to the curvature", "loss/parameter²"),
    "ema_steps": Meaning("Length of the average", "steps"),
    "adam_lr": Meaning("Step size η, about the size of a step of each parameter", "parameter"),
    "beta1": Meaning("Weight β₁ of the past in the mean of the gradients"),
    "beta2": Meaning("Weight β₂ of the past in the mean of the squared gradients"),
    "decoupled_decay": Meaning("Weight decay wd: the share of x that a step of size 1 takes away", "1/parameter"),
    "anneal": Meaning("The step size that the schedule anneals: outer_lr or inner_lr"),
}
