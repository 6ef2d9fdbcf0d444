"""Every rule's compiled population, beside the vectorized one and SGD's compiled one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from relaxbench.bench.cpu_time import OurPopulation, one_thread
from relaxbench.bench.interleave import interleaved, median_ratio
from relaxbench.bench.workloads import WORKLOADS
from relaxbench.optim.registry import RULES
from relaxbench.training.compiled import UnfitError
from relaxbench.training.compilers import why_not_here

SIZE = 32
ROUNDS, SECONDS = 9, 0.2
"""Stretches of each population, and their shortest duration in CPU-seconds."""
QUICK = ("sgd", "entropy-sgd"), 3, 0.05
TARGET = 0.6
"""Least speed of a rule relative to SGD's, in gradients: noise and inner loops included."""


def measure(device: torch.device, quick: bool, tell: Callable[[str], object]) -> dict[str, Any]:
    """Measure every rule that has a compiled step: ``rates`` in turn, and the ratios ``vectorized`` and ``sgd``.

    A rule without one has ``reason``. Where nothing can be compiled, the whole result is ``missing``.
    """
    if reason := why_not_here(device):
        return {"missing": reason}
    names, rounds, seconds = QUICK if quick else (tuple(RULES), ROUNDS, SECONDS)
    with one_thread():
        return {"size": SIZE, "rules": _rules(names, rounds, seconds, tell)}


def _rules(names: Sequence[str], rounds: int, seconds: float, tell: Callable[[str], object]) -> dict[str, Any]:
    problem, found = WORKLOADS["digits-mlp"].problem(), dict[str, Any]()
    sgd = OurPopulation(problem, "sgd", SIZE, True)
    for name in names:
        tell(f"a compiled population of {name}")
        try:
            ours = OurPopulation(problem, name, SIZE, True)
        except UnfitError as error:
            found[name] = {"reason": str(error)}
            continue
        contenders = {"compiled": ours, "vectorized": OurPopulation(problem, name, SIZE, False), "sgd": sgd}
        rates = interleaved(contenders, rounds, seconds)
        against = {other: median_ratio(rates["compiled"], rates[other]) for other in ("vectorized", "sgd")}
        found[name] = {"rates": rates, "seconds": ours.seconds, **against}
        found[name]["sgd"]["target"] = TARGET
    return found
