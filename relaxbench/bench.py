"""Speed on this machine: ratios of things measured side by side in one run, never bare times."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from rich.text import Text
from torch import nn

from relaxbench.errors import UserError
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems import SupervisedProblem
from relaxbench.problems.digits import digits_mlp
from relaxbench.training.engine import STRETCH_SECONDS, machine, throughput, torch_device

SIZE = 32
REPEATS = 7
NOISE_FREE = {"temperature": 0.0}
PLAIN: dict[str, Any] = {"box": None, "pad_edge": False, "header_style": "dim"}


def run(device: str, file: Path | None) -> list[Any]:
    """Measure, print, and write the figures to a file if one is given.

    Raises:
        UserError: if the file cannot be written (nothing is measured then) or the device is not there.
    """
    place = torch_device(device)
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.open("a").close()
        except OSError as error:
            raise UserError(f"--json {str(file)!r} cannot be written: {error.strerror}") from None
    figures = measure(place)
    if file is not None:
        file.write_text(json.dumps(figures, indent=2) + "\n")
    table = Table(**PLAIN)
    for column in ("method", "member-steps/s", "plain steps/s", "ratio", "median ratio"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for name, row in figures["population"].items():
        rates = f"{row['member_steps']:,.0f}", f"{row['plain_steps']:,.0f}"
        table.add_row(name, *rates, f"{row['ratio']:.2f} ×", f"{row['median_ratio']:.2f} ×")
    costs = Table(**PLAIN)
    for column in ("method", "ratio"):
        costs.add_column(column, justify="left" if column == "method" else "right")
    for name, ratio in figures["cost_alone"].items():
        costs.add_row(name, f"{ratio:.2f} ×")
    return [
        Text(f"A population of {SIZE} on digits-mlp against a plain PyTorch loop of SGD beside it, on {place}"),
        table,
        Text(
            "Fastest stretches of either side, run in turn; the median is over repeats. No Langevin noise.", style="dim"
        ),
        Text("\nCost of a gradient relative to SGD's, alone (K = 1, direct path)"),
        costs,
    ]


def measure(device: torch.device) -> dict[str, Any]:
    """All figures: each method's population against a plain loop beside it, and each rule's cost alone."""
    problem = digits_mlp()
    population: dict[str, Any] = {}
    for name, rule in RULES.items():
        params = {**defaults(rule.space), **{k: v for k, v in NOISE_FREE.items() if k in rule.space}}
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
    return {"machine": machine(), "device": str(device), "size": SIZE, "population": population, "cost_alone": alone}


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
