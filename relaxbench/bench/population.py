"""What training many members at once gains over a plain loop, and what each rule costs on a tiny network."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.optim.rule import Rule
from relaxbench.problems import SupervisedProblem
from relaxbench.problems.digits import digits_mlp
from relaxbench.training.engine import STRETCH_SECONDS, throughput

SIZE = 32
REPEATS = 7


def measure(device: torch.device) -> dict[str, Any]:
    """All figures: each method's population against a plain loop beside it, and each rule's cost alone."""
    problem = digits_mlp()
    population: dict[str, Any] = {}
    for name, rule in RULES.items():
        params = noise_free(rule)
        repeats = REPEATS if name in ("sgd", "entropy-sgd") else 3
        pairs = _paired(
            lambda: plain_loop(problem, device),
            lambda rule=rule, params=params: throughput(problem, rule(), "vectorized", SIZE, device, 0.3, **params),  # type: ignore[misc]
            repeats,
        )
        plain, ours = (max(column) for column in zip(*pairs, strict=True))
        median = statistics.median(ours / plain for plain, ours in pairs)
        population[name] = {"member_steps": ours, "plain_steps": plain, "ratio": ours / plain, "median_ratio": median}
    alone = {}
    for name, rule in RULES.items():
        pairs = _paired(
            lambda: throughput(problem, RULES["sgd"](), "direct", 1, device),
            lambda rule=rule: throughput(problem, rule(), "direct", 1, device),  # type: ignore[misc]
            3,
        )
        sgd, ours = (max(column) for column in zip(*pairs, strict=True))
        alone[name] = sgd / ours
    return {"size": SIZE, "population": population, "cost_alone": alone}


def noise_free(rule: type[Rule]) -> dict[str, Any]:
    """A rule's defaults, without Langevin noise."""
    return {**defaults(rule.space), **({"temperature": 0.0} if "temperature" in rule.space else {})}


def plain_loop(problem: SupervisedProblem, device: torch.device, seconds: float = 0.3) -> float:
    """Steps a second of the loop that a person would write: one model, `torch.optim.SGD`, data held in memory."""
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True)
    train = problem.split("train", device)
    x, y, size = train["x"], train["y"], problem.batch_size
    steps, spent, stretch, fastest = 0, 0.0, 0.0, 0.0
    while spent < seconds:
        start = time.perf_counter()
        order = torch.randperm(len(x), device=device)
        for first in range(0, len(x) - size + 1, size):
            index = order[first : first + size]
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(model(x[index]), y[index]))
            optimizer.step()
            steps += 1
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        stretch += time.perf_counter() - start
        if stretch >= STRETCH_SECONDS:  # the fastest stretch counts, as in `engine.throughput`
            fastest, spent = max(fastest, steps / stretch), spent + stretch
            steps, stretch = 0, 0.0
    return fastest


def _paired(first: Callable[[], float], second: Callable[[], float], repeats: int) -> list[tuple[float, float]]:
    """Both measured in turn, so that a noisy neighbour disturbs both alike."""
    return [(first(), second()) for _ in range(repeats)]
