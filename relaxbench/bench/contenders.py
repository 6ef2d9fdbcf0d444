"""The digits population beside what others would write: JAX, and a loop with a DataLoader; each with one thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from relaxbench.bench.cpu_time import OurPopulation, cpu_rate, one_thread
from relaxbench.bench.interleave import Contender, interleaved, median_ratio
from relaxbench.bench.jax_population import JaxPopulation, one_core, why_missing
from relaxbench.bench.plain_loop import PlainLoop, loaded
from relaxbench.bench.workloads import WORKLOADS
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.training.compilers import why_not_here

CASES = (("sgd", 8), ("sgd", 32), ("sgd", 128), ("entropy-sgd", 32))
"""Rule and K."""
ROUNDS, SECONDS = 15, 0.3
"""Stretches per contender, and their shortest duration in CPU-seconds."""
QUICK = CASES[1:2] + CASES[3:], 3, 0.05
TARGETS = {"jax": 0.8, "loader": 20.0}
"""Least ratio of our faster population to another way."""


class LoaderLoop:
    """A plain loop with a DataLoader in this process. Satisfies `interleave.Contender`, in steps per CPU-second."""

    def __init__(self) -> None:
        workload = WORKLOADS["digits-mlp"]
        problem, device = workload.problem(), torch.device("cpu")
        data = workload.dataset(*problem.tensors["train"])
        self.loop = PlainLoop(workload.network(), loaded(data, problem.batch_size, 0, device), device)
        self.loop.step()

    def rate(self, seconds: float) -> float:
        """Return steps per CPU-second."""
        return cpu_rate(self.loop.step, seconds)


def measure(device: torch.device, quick: bool, tell: Callable[[str], object]) -> dict[str, Any]:
    """Measure all ways in turn, for each rule and K.

    Returns:
        ``missing``, what is not here and how to get it, by way; ``cases``: for each ``rule``, ``size``, ``rates`` and
        by other way the ratio ``against`` it of our compiled population, or of the vectorized one without a compiler.
    """
    reasons = {"compiled": why_not_here(device), "jax": why_missing()}
    if device.type != "cpu":
        return {"missing": {"all": f"these ways are measured on the CPU, not on {device.type}: use device cpu"}}
    missing = {way: reason for way, reason in reasons.items() if reason}
    cases, rounds, seconds = QUICK if quick else (CASES, ROUNDS, SECONDS)
    problem, found = WORKLOADS["digits-mlp"].problem(), []
    with one_thread(), one_core():
        for name, size in cases:
            tell(f"{name}, K = {size}, in every way")
            contenders: dict[str, Contender] = {"vectorized": OurPopulation(problem, name, size, False)}
            if "compiled" not in missing:
                contenders["compiled"] = OurPopulation(problem, name, size, True)
            ours = [*contenders][-1]
            if "jax" not in missing:
                contenders["jax"] = JaxPopulation(problem, name, size, defaults(RULES[name].wide))
            if name == "sgd":
                contenders["loader"] = LoaderLoop()
            rates = interleaved(contenders, rounds, seconds)
            against = {
                way: {**median_ratio(rates[ours], rates[way]), "target": TARGETS.get(way)}
                for way in rates
                if way != ours
            }
            found.append({"rule": name, "size": size, "ours": ours, "rates": rates, "against": against})
    return {"missing": missing, "cases": found}
