"""Trials run by the engine, against the same trials one after another, or in one process per trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from statistics import median
from typing import Any

import torch

from relaxbench.bench.flight import Flight
from relaxbench.bench.interleave import Contender, interleaved, median_ratio
from relaxbench.bench.plain_loop import PlainLoop, in_memory, loaded
from relaxbench.bench.process_pool import ProcessPool, ProcessPoolError, pool_size
from relaxbench.bench.workloads import WORKLOADS, Workload
from relaxbench.problems import SupervisedProblem
from relaxbench.training.engine import Engine, choose_engine, oracle_path
from relaxbench.training.oracle import Path
from relaxbench.util.cores import cores
from relaxbench.util.text import counted

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
DEFAULT_TARGETS = {"mnistfc": 0.98, "lenet": 0.98}
"""Per problem on the CPU: the least ratio of the rate of our workers to that of the faster loop without a loader."""
GPU_SIZE = 64
"""K of the target for LeNet on a GPU; the engine's own choice of K is measured too."""


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
    count = pool_size(device)
    own = None if device.type == "cuda" else _chosen_by_a_worker(problem, device, size, count)
    populations: dict[str, tuple[Path, int] | None] = {"processes": None}
    if own is not None:  # on a GPU, `study` has one worker by default: ours
        populations["workers"] = oracle_path(own.path), own.population
    with ExitStack() as stack:
        for name, population in populations.items():
            tell(f"starting {counted(count, 'worker') if population else f'{count} plain processes'}")
            pool = stack.enter_context(ProcessPool(workload.name, device, count, population))
            settings[name] = {"processes": pool.size, "threads": pool.threads}
            try:
                pool.rate(seconds)
                contenders[name] = pool
            except ProcessPoolError as error:
                settings[name]["reason"] = str(error)
        tell("all in turn")
        rates = interleaved(contenders, rounds, seconds)
    workers = settings.pop("workers", None)
    if workers and own:
        workers |= {"path": own.path, "population": own.population, "target": DEFAULT_TARGETS.get(workload.name)}
        workers |= _by_default(rates)
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
        "workers": workers,
    }


def _chosen_by_a_worker(problem: SupervisedProblem, device: torch.device, size: int | None, count: int) -> Engine:
    """Return the engine that a worker chooses, which has its share of the threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // count))
    try:
        return choose_engine(problem, device, size)
    finally:
        torch.set_num_threads(threads)


def _by_default(rates: dict[str, list[float]]) -> dict[str, Any]:
    """Compare our workers, as `study` starts them by default, with the faster of the loops without a loader."""
    if "workers" not in rates:
        return {}
    best = max((name for name in ("memory", "processes") if name in rates), key=lambda name: median(rates[name]))
    return {"best": best, **median_ratio(rates["workers"], rates[best])}


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
