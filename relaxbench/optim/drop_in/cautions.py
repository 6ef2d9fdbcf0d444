"""Settings that run but are probably not meant: two schedules at once, a hot or an unstable inner chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from relaxbench.optim.rule import Rule
from relaxbench.optim.rules.entropy_sgd import EntropySGD
from relaxbench.optim.rules.parle import Parle

HOT = 10.0
"""The multiple of the temperature from which a chain is called hot."""

CHAIN = ("inner_lr", "momentum", "gamma", "weight_decay")
"""What the stability of the inner chain depends on."""


def doubled(groups: Sequence[Mapping[str, Any]], first: Sequence[float]) -> str | None:
    """Describe that the `lr` of a group has been changed, by a scheduler of PyTorch, while the rule has a schedule.

    Args:
        groups: the parameter groups.
        first: the `lr` of each when the optimizer was made.
    """
    schedule = groups[0].get("schedule", "constant")
    if schedule == "constant":
        return None
    for group, began in zip(groups, first, strict=True):
        start = group.get("initial_lr", began)
        if group["lr"] != start:
            return (
                f'lr was {start:g} and is now {group["lr"]:g}, so a scheduler acts on it, and schedule = "{schedule}" '
                'multiplies it too: pass schedule="constant", or leave out the scheduler'
            )
    return None


def hot(rule: Rule, probed: Sequence[Mapping[str, Tensor]]) -> str | None:
    """Describe an inner chain y that diverges, or is hotter than its temperature, on a loss without any curvature.

    Args:
        rule: the rule.
        probed: the scheduled values at some times of training, ``[1, groups]``.
    """
    if not isinstance(rule, (EntropySGD, Parle)) or not {*CHAIN} <= set(probed[0]):
        return None
    outside = isinstance(rule, EntropySGD) and rule.coupling_outside_momentum
    pulls = [now["inner_lr"] * (1 / now["gamma"] + now["weight_decay"]) for now in probed]
    worst = max(range(len(pulls)), key=lambda at: float(pulls[at].max()))
    now, group = probed[worst], int(pulls[worst].argmax())
    pull, gamma, rate = float(pulls[worst][0, group]), float(now["gamma"][0, group]), float(now["inner_lr"][0, group])
    momentum = 0.0 if outside else float(now["momentum"][0, group])
    where = f"{rule.title}'s inner loop at gamma = {gamma:g}: inner_lr (1/gamma + weight_decay) = {pull:.3g}"
    change = f"lower inner_lr = {rate:g} or momentum, or raise gamma_end and gamma_start"
    released = isinstance(rule, Parle) and rule.mpi_code  # y ← y − (d + v)
    limit = 2 * (1 + momentum) / (2 + momentum if released else 1 + 2 * momentum)
    if pull >= limit:
        return f"{where}, and from {limit:.3g} on it diverges even where the loss is flat: {change}"
    heat = variance(pull, momentum) * pull
    if "temperature" not in now or not float(now["temperature"].max()) or heat < HOT:
        return None
    small = 1.0 if outside else (1 - momentum) ** 2
    return (
        f"{where} is not small against {small:.3g}{'' if outside else ' = (1 - momentum)²'}: even where the loss is "
        f"flat the chain is {heat:.3g} times as hot as temperature says; {change}"
    )


def variance(pull: float, momentum: float) -> float:
    """Return the stationary variance of y ← y − (d + m v), v ← m v + d, d = k y, with noise of 2/(1 − m) per step.

    With small steps it is 1/k: the chain then has its temperature.

    Args:
        pull: k = η (λ + 1/γ), below 2 (1 + m)/(1 + 2 m), where the chain is stable.
        momentum: m.
    """
    step = torch.tensor(
        [[1 - pull * (1 + momentum), -momentum * momentum], [pull, momentum]], dtype=torch.float64
    )  # of (y, v)
    noise = torch.tensor([2 / (1 - momentum), 0.0, 0.0, 0.0], dtype=torch.float64)
    return float(torch.linalg.solve(torch.eye(4, dtype=torch.float64) - torch.kron(step, step), noise)[0])
