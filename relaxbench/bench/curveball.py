"""What a step of CurveBall costs in steps of SGD: `OMP_NUM_THREADS=1 python -m relaxbench.bench.curveball`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn

from relaxbench.bench.workloads import synthetic
from relaxbench.optim.drop_in.curveball import CurveBall
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems.digits import digits_mlp
from relaxbench.training.oracle import Oracle, Path
from relaxbench.training.population import Population
from relaxbench.training.trial import Job
from relaxbench.util.malloc import keep_freed_memory

SECONDS = 3.0
STEPS = 5
"""Steps of a stretch: the trust region is looked at in one of five."""
Steps = Callable[[], object]


def in_a_loop(widths: tuple[int, ...], batch: int) -> tuple[Steps, Steps]:
    """Return five training steps of a plain network by `torch.optim.SGD(foreach=True)`, and by the drop-in class."""

    def network() -> nn.Module:
        layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*layers[:-1])

    x, y = torch.randn(batch, widths[0]), torch.randint(0, widths[-1], (batch,))
    plain, ours = network(), network()
    sgd = torch.optim.SGD(plain.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, nesterov=True, foreach=True)
    curveball = CurveBall(ours, total_steps=10**6)

    def steps_of_sgd() -> None:
        for _ in range(STEPS):
            sgd.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(plain(x), y))
            sgd.step()

    def steps_of_curveball() -> None:
        for _ in range(STEPS):
            curveball.step(lambda: ours(x), lambda out: nn.functional.cross_entropy(out, y))

    return steps_of_sgd, steps_of_curveball


def in_a_population(network: str, path: Path, size: int) -> tuple[Steps, Steps]:
    """Return five steps of a population of SGD, and of CurveBall."""
    problem = digits_mlp() if network == "digits-mlp" else synthetic(network)

    def steps(name: str) -> Steps:
        rule = RULES[name]()
        population = Population(Oracle(problem, path), rule, budget=10**9)
        population.admit([Job(k, k % 8, defaults(rule.wide)) for k in range(size)])
        return lambda: population.advance(STEPS)

    return steps("sgd"), steps("curveball")


def ratio(first: Steps, second: Steps) -> float:
    """Return the median ratio of CPU seconds of the two, in turn."""
    for steps in (first, second):
        steps()
    ratios, end = list[float](), time.process_time() + SECONDS
    while time.process_time() < end or len(ratios) < 5:
        begin = time.process_time()
        first()
        middle = time.process_time()
        second()
        ratios.append((time.process_time() - middle) / (middle - begin))
    return statistics.median(ratios)


def main() -> None:
    """Print a line per network."""
    torch.set_num_threads(1)
    for widths, batch in (((64, 32, 10), 64), ((784, 128, 10), 128), ((784, 512, 512, 10), 128)):
        print(f"{'-'.join(map(str, widths))} in a loop: {ratio(*in_a_loop(widths, batch)):.2f}", flush=True)
    keep_freed_memory()
    populations: tuple[tuple[str, Path, int], ...] = (
        ("digits-mlp", "direct", 1),
        ("digits-mlp", "vectorized", 32),
        ("digits-mlp", "vectorized", 128),
        ("mnistfc", "direct", 1),
        ("mnistfc", "vectorized", 4),
    )
    for network, path, size in populations:
        print(f"{network}, {path}, K = {size}: {ratio(*in_a_population(network, path, size)):.2f}", flush=True)


if __name__ == "__main__":
    main()
