"""Speed-up of a population over a plain loop on a tiny network."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch

from relaxbench.bench.interleave import stretch
from relaxbench.bench.plain_loop import in_memory
from relaxbench.bench.workloads import WORKLOADS
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.optim.rule import Rule
from relaxbench.problems.digits import digits_mlp
from relaxbench.training.engine import STRETCH_SECONDS, throughput
from relaxbench.training.oracle import Oracle

SIZE = 32
REPEATS = 7
QUICK = ("sgd", "entropy-sgd")
"""Methods of a quick run; a full run repeats them more often than the others."""


def measure(device: torch.device, quick: bool, tell: Callable[[str], object]) -> dict[str, Any]:
    """Measure each method's population against a plain loop run in turn."""
    problem = digits_mlp()
    rules = {name: RULES[name] for name in QUICK} if quick else RULES
    population: dict[str, Any] = {}
    for name, rule in rules.items():
        tell(f"a population of {name} against a plain loop")
        params = noise_free(rule)
        repeats = 1 if quick else REPEATS if name in QUICK else 3
        pairs = _paired(
            lambda: plain_steps_per_second(device),
            lambda rule=rule, params=params: throughput(Oracle(problem), rule(), SIZE, device, 0.3, **params),  # type: ignore[misc]
            repeats,
        )
        plain, ours = (max(column) for column in zip(*pairs, strict=True))
        median = statistics.median(ours / plain for plain, ours in pairs)
        population[name] = {"member_steps": ours, "plain_steps": plain, "ratio": ours / plain, "median_ratio": median}
    return {"size": SIZE, "methods": population}


def noise_free(rule: type[Rule]) -> dict[str, Any]:
    """Return a rule's default parameters, without Langevin noise."""
    return {**defaults(rule.wide), **({"temperature": 0.0} if "temperature" in rule.wide else {})}


def plain_steps_per_second(device: torch.device, seconds: float = 0.3) -> float:
    """Return steps per second of a plain loop: one model, `torch.optim.SGD`, data in memory."""
    loop = in_memory(WORKLOADS["digits-mlp"], device)
    loop.step()
    # The fastest stretch counts, as in `engine.throughput`.
    return max(stretch(loop.step, STRETCH_SECONDS, device, lead=0) for _ in range(round(seconds / STRETCH_SECONDS)))


def _paired(first: Callable[[], float], second: Callable[[], float], repeats: int) -> list[tuple[float, float]]:
    """Measure both in turn, so that other load on the machine affects both alike."""
    return [(first(), second()) for _ in range(repeats)]
