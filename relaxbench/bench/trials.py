"""Trials run by the engine, against the same trials one after another, or in one process per trial."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch

from relaxbench.bench.interleave import Contender, interleaved, median_ratio, stretch, synchronize
from relaxbench.bench.plain_loop import PlainLoop, in_memory, loaded
from relaxbench.bench.process_pool import ProcessPool, ProcessPoolError, pool_size
from relaxbench.bench.workloads import WORKLOADS, Workload
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems import SupervisedProblem
from relaxbench.training.engine import choose_engine, oracle_path
from relaxbench.training.oracle import Oracle, Path
from relaxbench.training.population import Population
from relaxbench.training.precision import Precision
from relaxbench.training.trial import Job
from relaxbench.util.cores import cores

ROUNDS, SECONDS = 24, 0.3
"""Stretches per contender, and their shortest duration in seconds."""
QUICK = 5, 0.1
TARGETS = {
    ("cpu", "digits-mlp"): {"memory": 3.0},
    ("cpu", "mnistfc"): {"memory": 0.95},
    ("cpu", "lenet"): {"memory": 0.95},
    ("cuda", "digits-mlp"): {"memory": 3.0},
    ("cuda", "lenet, K = 64"): {"memory": 20.0, "loader": 100.0},
}
"""Per kind of device and problem: the least ratio of our rate to that of another way."""
GPU_SIZE = 64
"""K of the target for LeNet on a GPU; the engine's own choice of K is measured too."""


class Flight:
    """A running population, without evaluations. Satisfies `interleave.Contender`; counts members' steps.

    Args:
        problem: trained with SGD and its defaults.
        path, size: of the engine.
        device: where.
        lead: untimed steps before a stretch.
        precision: of the model.
    """

    def __init__(
        self,
        problem: SupervisedProblem,
        path: Path,
        size: int,
        device: torch.device,
        lead: int = 1,
        precision: Precision = "float32",
    ) -> None:
        rule = RULES["sgd"]()
        self.size, self.device, self.lead, self.chunk = size, device, lead, 1
        self.population = Population(Oracle(problem, path, precision), rule, budget=10**9, device=device)
        self.population.admit([Job(i, i, defaults(rule.wide)) for i in range(size)])
        self.longest = -(-problem.budget // problem.rounds)  # steps between two measurements of a study
        self.step()  # the first step allocates memory

    def step(self) -> int:
        """Advance by a part of a round."""
        self.population.advance(self.chunk)
        return self.size * self.chunk

    def rate(self, seconds: float) -> float:
        """Return members' steps per second, in rounds as long as a study's unless those outlast the stretch."""
        start = time.perf_counter()
        self.population.advance(1)
        synchronize(self.device)
        self.chunk = max(1, min(self.longest, int(seconds / 2 / (time.perf_counter() - start))))
        return stretch(self.step, seconds, self.device, self.lead)


def measure(device: torch.device, quick: bool, tell: Callable[[str], object]) -> dict[str, Any]:
    """Measure every problem: the engine's choice, rates of all contenders, and ratios of ours to theirs.

    A problem without data has an entry ``missing``; a contender that cannot run has an entry ``reason``.
    """
    entries: dict[str, Any] = {}
    for workload, size in _entries(device, quick):
        label = workload.name if size is None else f"{workload.name}, K = {size}"
        problem = workload.problem()
        if reason := problem.missing():
            entries[label] = {"missing": reason}
        else:
            targets = TARGETS.get((device.type, label), {})
            entries[label] = _contest(workload, size, device, targets, quick, partial(_tell, tell, label))
    return entries


def _tell(tell: Callable[[str], object], label: str, what: str) -> None:
    tell(f"{label}: {what}")


def _entries(device: torch.device, quick: bool) -> Iterator[tuple[Workload, int | None]]:
    for name, workload in WORKLOADS.items():
        if not quick or name != "mnistfc":
            yield workload, None
    if device.type == "cuda":
        yield WORKLOADS["lenet"], GPU_SIZE


def _contest(
    workload: Workload,
    size: int | None,
    device: torch.device,
    targets: dict[str, float],
    quick: bool,
    tell: Callable[[str], object],
) -> dict[str, Any]:
    """Measure one workload against all other ways; `size` is K, or None for the engine's choice."""
    problem = workload.problem()
    rounds, seconds = QUICK if quick else (ROUNDS, SECONDS)
    tell("the engine's choice")
    engine = choose_engine(problem, device, size)
    ours = Flight(problem, oracle_path(engine.path), engine.population, device)
    contenders: dict[str, Contender] = {"ours": ours, "memory": in_memory(workload, device)}
    settings: dict[str, dict[str, Any]] = {"memory": {}}
    tell("settings of a DataLoader")
    contenders["loader"], settings["loader"] = _fastest_loader(workload, problem, device, seconds, quick)
    with ExitStack() as stack:
        count = pool_size(device)
        tell(f"starting {count} processes")
        pool = stack.enter_context(ProcessPool(workload.name, device, count))
        settings["processes"] = {"processes": pool.size, "threads": pool.threads}
        try:
            pool.rate(seconds)
            contenders["processes"] = pool
        except ProcessPoolError as error:
            settings["processes"]["reason"] = str(error)
        tell("all in turn")
        rates = interleaved(contenders, rounds, seconds)
    return {
        "engine": engine.as_dict(),
        "batch_size": problem.batch_size,
        "budget": problem.budget,
        "rates": rates,
        "against": {
            name: about
            | (median_ratio(rates["ours"], rates[name]) if name in rates else {})
            | {"target": targets.get(name)}
            for name, about in settings.items()
        },
    }


def _fastest_loader(
    workload: Workload, problem: SupervisedProblem, device: torch.device, seconds: float, quick: bool
) -> tuple[PlainLoop, dict[str, Any]]:
    """Return the loop with the fastest number of DataLoader workers, and the rates of all numbers tried."""
    data = workload.dataset(*problem.tensors["train"])
    loops: dict[int, PlainLoop] = {}
    tried: dict[int, float] = {}
    for workers in (0,) if quick else dict.fromkeys((0, min(4, cores()))):
        batches = loaded(data, problem.batch_size, workers, device)
        loops[workers] = PlainLoop(workload.network(), batches, device, workers)
        try:
            loops[workers].rate(seconds)
            tried[workers] = loops[workers].rate(2 * seconds)
        except (RuntimeError, OSError):  # not enough shared memory for workers
            if workers == 0:
                raise
    best = max(tried, key=lambda workers: tried[workers])
    return loops[best], {"workers": best, "tried": {str(workers): rate for workers, rate in tried.items()}}
