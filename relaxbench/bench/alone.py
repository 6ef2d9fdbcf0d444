"""Cost of a gradient of each rule that trains alone on a tiny network, relative to SGD's, as a study calibrates it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from relaxbench.optim.registry import RULES
from relaxbench.problems.digits import digits_mlp
from relaxbench.training.costs import calibrate

TARGETS = {"entropy-sgd": 1.25, "heat": 1.1}
"""Largest ratios of the rules that draw noise: their time must be that of their mathematics, not of a generator."""

QUICK = ("sgd", "entropy-sgd", "heat")


def measure(device: torch.device, quick: bool, tell: Callable[[str], object]) -> dict[str, Any]:
    """Measure, for every rule, ``ratio`` with ``low`` and ``high``, its 95 % interval, and ``target``."""
    names = [*(QUICK if quick else RULES), "sgd"]  # SGD twice: its second ratio shows the accuracy
    rules = [RULES[name]() for name in names]

    tell(f"a gradient of {len(rules)} rules alone, in turn")
    costs = calibrate(digits_mlp(), rules, device, allowed=0.0 if quick else math.inf)
    names[-1] = "sgd again"
    base = costs[names.index("sgd")]
    figures = {}
    for name, cost in zip(names, costs, strict=True):
        ratio = cost["seconds_per_gradient"] / base["seconds_per_gradient"]
        spread = 0.0 if cost is base else math.hypot(cost["seconds_spread"], base["seconds_spread"])
        figures[name] = {
            "ratio": ratio,
            "low": ratio * (1 - spread),
            "high": ratio * (1 + spread),
            "target": TARGETS.get(name),
        }
    return figures
